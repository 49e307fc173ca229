"""The bridge of `open`: made once, as it must be, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chronicled.events.errors import ConfigurationError, SandboxStartFailed
from chronicled.runtimes.docker.egress import open_egress
from chronicled.runtimes.docker.network import APART, OpenNetwork, network_policies, proxy_environment
from chronicled.runtimes.docker.network_settings import AllowSettings, NetworkSettings
from chronicled.runtimes.news import News
from chronicled.runtimes.testing import make_spec


class Engine:
    """As much of an engine's client as a bridge needs."""

    def __init__(self, components: list[str], networks: list[dict[str, Any]]) -> None:
        self.networks = self
        self.components = components
        self.there = networks

    async def version(self) -> dict[str, Any]:
        """Tell what the engine is made of."""
        return {"Components": [{"Name": name} for name in self.components]}

    async def list(self, filters: dict[str, Any]) -> list[dict[str, Any]]:
        """Tell what networks there are."""
        return self.there

    async def create(self, wanted: dict[str, Any]) -> None:
        """Make a network."""
        self.there.append(wanted)

    async def connect(self) -> Any:
        """Return the client."""
        return self


async def test_the_bridge_is_made_once_with_sandboxes_apart(tmp_path: Path) -> None:
    """The first sandbox has it made, with containers kept from each other; the next ones find it."""
    engine = Engine(["Engine", "containerd"], [])
    network = OpenNetwork("i", engine.connect)
    grants = [await network.prepare(make_spec(tmp_path)) for _ in range(3)]
    assert {grant.mode for grant in grants} == {"chronicled-open-i"}
    assert [each["Options"] for each in engine.there] == [{APART: "false"}]


@pytest.mark.parametrize(
    ("components", "found"),
    [
        (["Podman Engine"], None),
        (["Engine"], {"Labels": {}, "Options": {APART: "false"}}),
        (["Engine"], {"Labels": None, "Options": None}),
        (["Engine"], {"Labels": {"chronicled.instance": "i", "chronicled.network": "open"}, "Options": {}}),
    ],
)
async def test_a_bridge_on_which_sandboxes_meet_is_refused(
    tmp_path: Path, components: list[str], found: dict[str, Any] | None
) -> None:
    """An engine that cannot keep sandboxes apart, and a bridge that somebody else made, give no sandbox a network."""
    engine = Engine(components, [] if found is None else [{"Name": "chronicled-open-i", **found}])
    with pytest.raises(SandboxStartFailed, match="network: "):
        await OpenNetwork("i", engine.connect).prepare(make_spec(tmp_path))
    assert len(engine.there) == (found is not None)


async def test_policies_have_names_of_their_own() -> None:
    """The built-in names cannot be taken, `open` can be left out, and a mistake in a list is told at the start."""
    engine, news = Engine([], []), News()
    web = AllowSettings(allow=("a.example",))
    async with open_egress() as egress:
        found = network_policies(
            NetworkSettings(open_offered=False, policies={"web": web}), "i", engine.connect, egress, news
        )
        assert list(found) == ["none", "web"]
        for policies in ({"open": web}, {"none": web}, {"web": AllowSettings(allow=("http://x",))}):
            with pytest.raises(ConfigurationError):
                network_policies(NetworkSettings(policies=policies), "i", engine.connect, egress, news)


def test_programs_find_the_proxy_by_either_case() -> None:
    """Each variable is there in both cases, and nothing on the sandbox's own loopback goes over the proxy."""
    found = proxy_environment(19128)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        assert found[name] == found[name.lower()]
    assert found["https_proxy"] == "http://127.0.0.1:19128"
    assert "127.0.0.1" in found["no_proxy"].split(",")
