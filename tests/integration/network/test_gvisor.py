"""An allow list under gVisor, whose sandboxes have a network stack of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.fixture import MUSL
from tests.engine.own import OwnEngine
from tests.integration.docker.host import runtime_of
from tests.integration.network.place import open_place

pytestmark = pytest.mark.usefixtures("carrier")


async def test_the_proxy_is_the_only_way_out_under_gvisor(gvisor: OwnEngine, tmp_path: Path) -> None:
    """The same policy holds, and the same socket leads out, under another kernel."""
    runtime = runtime_of(gvisor.host, image=MUSL, isolation="gvisor", limits_unkept_allowed=True)
    async with open_place(tmp_path, runtime) as place, place.sandbox("web") as shell:
        port = place.internet.port
        for host, said in (("allowed.example", "hello from outside"), ("denied.example", "is not allowed")):
            request = f"GET http://{host}:{port}/ HTTP/1.1\\r\\n\\r\\n"
            _, output = await shell.run(f"printf '{request}' | nc 127.0.0.1 ${{http_proxy##*:}}")
            assert said in output, output
        await place.until_denied(1)
        assert [(each.host, each.reason) for each in place.denied] == [("denied.example", "not_allowed")]
        assert (await shell.run("nc 1.1.1.1 80 < /dev/null"))[0] == 1
        devices = (await shell.run("cat /proc/net/dev"))[1].splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
