"""What a sandbox under an allow list reaches, on a real engine, and what it does not."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from tests.integration.network.place import open_place

pytestmark = pytest.mark.usefixtures("engine", "carrier")

SHOW = "-sS --max-time 10 -o - -w '%{http_code}'"


async def test_what_is_listed_is_reached_and_nothing_else(tmp_path: Path) -> None:
    """A listed host answers over the proxy that the environment names; any other is refused, says so, and is told."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        port = place.internet.port
        for host in ("allowed.example", "below.allowed.example", "ALLOWED.example."):
            assert await shell.run(f"curl {SHOW} http://{host}:{port}/path") == (0, "hello from outside\n200")
        assert b"GET /path HTTP/1.1\r\nHost: allowed.example:" in place.internet.received[0]
        read = "import urllib.request as r; print(r.urlopen('http://allowed.example:%d/').read())"
        assert (await shell.run(f'python3 -c "{read % port}"'))[1] == "b'hello from outside\\n'\n"
        for host in ("denied.example", "notallowed.example", "example"):
            code, output = await shell.run(f"curl {SHOW} http://{host}:{port}/")
            assert (code, output[-3:]) == (0, "403")
            assert f"{host}:{port} is not allowed: network policy 'web'" in output
        assert (await shell.run(f"curl {SHOW} http://allowed.example:{port + 1}/"))[1].endswith("403")
        assert (await shell.run(f"curl {SHOW} https://denied.example/"))[0] == 56, "CONNECT is refused as well"
        await place.until_denied(5)
        told = Counter((each.host, each.port, each.reason, each.policy) for each in place.denied)
        assert told[("denied.example", port, "not_allowed", "web")] == 1
        assert told[("denied.example", 443, "not_allowed", "web")] == 1
        # Not even the name of what is not allowed leaves the machine.
        assert "denied.example" not in place.internet.look_ups


async def test_there_is_no_other_way_out(tmp_path: Path) -> None:
    """Without the proxy there is no interface but the loopback, no route, no name server, and no other socket."""
    async with open_place(tmp_path) as place:
        for network in ("web", "none"):
            async with place.sandbox(network) as shell:
                assert (await shell.run("ls /sys/class/net; ip -o route; ip -6 -o route | grep -v ' lo '"))[1] == "lo\n"
                for target in ("1.1.1.1 80", "172.17.0.1 22", f"127.0.0.1 {place.internet.port}", "169.254.169.254 80"):
                    code, output = await shell.run(f"echo > /dev/tcp/{target.replace(' ', '/')}")
                    assert code == 1, output
                assert (await shell.run("curl -sS --noproxy '*' --max-time 5 http://allowed.example/"))[0] == 6
                # Not even what is in the directory can be listed.
                assert (await shell.run("ls -A /.chronicled/run"))[0] == 2
                assert ((await shell.run("test -S /.chronicled/run/egress.sock"))[0] == 0) is (network == "web")
        async with place.sandbox("none") as shell:
            assert (await shell.run("env | grep -i proxy"))[1] == ""
        assert place.internet.received == []
        assert place.denied == []


async def test_another_name_inside_tls_is_refused(tmp_path: Path) -> None:
    """A client that asks the proxy for a listed host and greets another one gets nothing, and it is told."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        port = place.internet.port
        to = f"--connect-to ::allowed.example:{port}"
        code, _ = await shell.run(f"curl {SHOW} -k {to} https://evil.example/")
        assert code != 0
        assert all(not data for data in place.internet.received), "not a byte of it went out"
        await place.until_denied(1)
        assert [(each.host, each.reason) for each in place.denied] == [("evil.example", "sni_mismatch")]
        # The same with names of the list goes through, to a server that happens to speak no TLS.
        for name in (f"allowed.example:{port}", f"below.allowed.example:{port}"):
            await shell.run(f"curl {SHOW} -k {to} https://{name}/")
        greetings = [data for data in place.internet.received if data[:1] == b"\x16"]
        assert len(greetings) == 2
        assert b"below.allowed.example" in greetings[1]


async def test_names_do_not_lead_inside(tmp_path: Path) -> None:
    """A listed name that leads to a private, local or metadata address is refused, and no name is resolved twice."""
    async with open_place(tmp_path, private_networks=[]) as place, place.sandbox("web") as shell:
        inside = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254"]
        for address in inside:
            place.internet.names["inside.example"] = [address]
            code, output = await shell.run(f"curl {SHOW} http://inside.example/")
            assert (code, output[-3:]) == (0, "403"), address
            assert "not public" in output
        place.internet.look_ups.clear()
        await shell.run(f"curl {SHOW} http://allowed.example:{place.internet.port}/")
        assert place.internet.look_ups == ["allowed.example"]
        assert (await shell.run(f"curl {SHOW} http://lost.example/"))[1].endswith("502")
        await place.until_denied(len(inside) + 2)
        assert {each.reason for each in place.denied} == {"private_address", "unresolved"}
        assert place.internet.received == []


async def test_a_flood_of_denials_is_few_events(tmp_path: Path) -> None:
    """Hundreds of refused tries become a handful of events whose counts add up."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        urls = "http://h[1-60].example/ http://same.example/?[1-240]"
        code, _ = await shell.run(f"curl -s --parallel --parallel-max 20 -o /dev/null {urls}")
        assert code == 0
        await place.until_denied(300)
        assert sum(each.count for each in place.denied) == 300
        assert len(place.denied) <= 40
        assert max(each.count for each in place.denied if each.host == "same.example") >= 20


async def test_limits_of_connections_and_bytes(tmp_path: Path) -> None:
    """More connections than allowed are turned away, and after the last byte of its budget a sandbox moves no more."""
    async with open_place(tmp_path, connections_max=2, bytes_max=200_000) as place, place.sandbox("web") as shell:
        port = place.internet.port
        ask = f"curl {SHOW} http://allowed.example:{port}/"
        connect = "held = [socket.create_connection(('127.0.0.1', 19128)) for _ in range(3)]"
        code, output = await shell.run(f'python3 -c "import socket; {connect}; print(held[2].recv(100))"')
        assert (code, output[:14]) == (0, "b'HTTP/1.1 503")
        assert (await shell.run(ask))[1].endswith("200")
        place.internet.body = b"x" * 150_000
        assert (await shell.run(f"{ask} | wc -c"))[1].strip() == "150003"
        assert int((await shell.run(f"{ask} 2>/dev/null | wc -c"))[1]) < 60_000
        assert not (await shell.run(ask))[1].startswith("x")
        await place.until_denied(2)
        assert {"connections_max", "bytes_max"} <= {each.reason for each in place.denied}


async def test_the_proxy_comes_back(tmp_path: Path) -> None:
    """A sandbox whose worker is away is told so and gets its network back with it; a forwarder that was killed too."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        ask = f"curl {SHOW} http://allowed.example:{place.internet.port}/"
        assert (await shell.run(ask))[1].endswith("200")
        assert place.egress is not None
        await place.egress.close(shell.sandbox)
        code, output = await shell.run(ask)
        assert (code, output[-3:]) == (0, "503")
        assert "is away" in output
        await place.runtime.networks["web"].resume(shell.worker.spec)
        assert (await shell.run(ask))[1].endswith("200")
        # It listens; the action server and the shells do not.
        kill = "for p in /proc/[0-9]*; do readlink $p/fd/* 2>/dev/null | grep -q eventpoll && echo ${p#/proc/}; done"
        await shell.run(f"for each in $({kill}); do [ $each -gt 10 ] && kill -9 $each; done")
        assert (await shell.run(f"for i in 1 2 3 4 5 6 7 8 9; do {ask} && break; sleep 0.2; done"))[1].endswith("200")


async def test_much_goes_through_whole(tmp_path: Path) -> None:
    """Megabytes in both directions arrive as they were sent."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        place.internet.body = bytes(range(256)) * 40_000
        code, output = await shell.run(f"curl -sS http://allowed.example:{place.internet.port}/ | sha256sum")
        assert (code, output.split()[0]) == (0, hashlib.sha256(place.internet.body).hexdigest())
