"""Negative controls: each guard, taken out on purpose, lets through what its test says it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.network.place import open_place

from chronicled.runtimes.docker import egress_dial
from chronicled.runtimes.docker.egress_hello import Greeting, GreetingReader
from chronicled.runtimes.docker.egress_rules import Rules


def anything(*_: object) -> bool:
    """Let everything through."""
    return True


def no_tls(*_: object) -> Greeting:
    """See no TLS anywhere."""
    return Greeting.OTHER


pytestmark = pytest.mark.usefixtures("engine", "carrier")


async def test_without_the_list_everything_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is what keeps a sandbox from a host that it does not hold."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        place.internet.names["denied.example"] = ["127.0.0.1"]
        ask = f"curl -sS http://denied.example:{place.internet.port}/"
        assert "is not allowed" in (await shell.run(ask))[1]
        monkeypatch.setattr(Rules, "allows", anything)
        assert (await shell.run(ask))[1] == "hello from outside\n"


async def test_without_the_judgement_names_lead_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judgement of addresses is what keeps a listed name from leading to this machine."""
    async with open_place(tmp_path, private_networks=[]) as place, place.sandbox("web") as shell:
        ask = f"curl -sS http://allowed.example:{place.internet.port}/"
        assert "not public" in (await shell.run(ask))[1]
        monkeypatch.setattr(egress_dial, "is_permitted", anything)
        assert (await shell.run(ask))[1] == "hello from outside\n"


async def test_without_the_look_into_tls_another_name_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the greeting is what keeps a tunnel to a listed host from asking it for another one."""
    async with open_place(tmp_path) as place, place.sandbox("web") as shell:
        ask = f"curl -sSk --connect-to ::allowed.example:{place.internet.port} https://evil.example/"
        await shell.run(ask)
        assert not any(b"evil.example" in data for data in place.internet.received)
        monkeypatch.setattr(GreetingReader, "feed", no_tls)
        await shell.run(ask)
        assert any(b"evil.example" in data for data in place.internet.received)
