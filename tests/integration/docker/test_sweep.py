from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.engine.fixture import DEBIAN, Engine
from tests.integration.docker.host import docker, running, runtime_of, serving

from chronicled.events.errors import SandboxUnreachable
from chronicled.runtimes.docker import labels
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import make_spec

pytestmark = pytest.mark.usefixtures("engine")

OWN = uuid.uuid4().hex[:8]
"""In all names: those of another run, or of one that was ended, may be on the same engine."""
INSTANCE = f"test-sweep-{OWN}"
HEAD = 100
FULL = labels.labels_of(instance=INSTANCE, worker="tester", sandbox="s-1", generation="g-1", position=HEAD)

FOREIGN: dict[str, dict[str, str]] = {
    "another instance's": {**FULL, "chronicled.instance": f"{INSTANCE}-2"},
    "of a copied data directory, further than our log": {**FULL, "chronicled.position": str(HEAD + 1)},
    "half of the labels": {"chronicled.instance": INSTANCE, "chronicled.sandbox": "s-3"},
    "a position that is none": {**FULL, "chronicled.position": "0x10"},
    "a name like ours and no label": {},
    "an instance in another case": {**FULL, "chronicled.instance": INSTANCE.upper()},
    "only the position missing": {name: value for name, value in FULL.items() if name != "chronicled.position"},
}


def made(name: str, carried: dict[str, str]) -> str:
    """Make a container that runs, as somebody else would; return its id."""
    words = [word for pair in carried.items() for word in ("--label", "=".join(pair))]
    return docker("run", "-d", "--init", "--network", "none", "--name", name, *words, DEBIAN, "sleep", "600")


@asynccontextmanager
async def closing(runtime: DockerRuntime) -> AsyncGenerator[None]:
    """Close the runtime's connections at the end, and sweep nothing."""
    try:
        yield
    finally:
        await runtime.engine.aclose()


@pytest.fixture
def foreign(engine: Engine) -> Iterator[list[str]]:
    """Look-alikes that are not ours; they are there at the end as they were at the start."""
    made_here = [
        made(f"chronicled-look-alike-{number}-{OWN}", carried) for number, carried in enumerate(FOREIGN.values())
    ]
    try:
        before = docker("inspect", "-f", "{{.Id}} {{.State.Status}} {{.State.StartedAt}}", *made_here)
        yield made_here
        assert docker("inspect", "-f", "{{.Id}} {{.State.Status}} {{.State.StartedAt}}", *made_here) == before
    finally:
        docker("rm", "-f", *made_here)


async def test_look_alikes_are_never_touched(tmp_path: Path, foreign: list[str]) -> None:
    """A sweep removes ours that nobody knows, and neither what others made, nor what another log's worker made."""
    ours = runtime_of(instance=INSTANCE)
    task = asyncio.create_task(ours.run())
    try:
        async with serving(ours, tmp_path, position=HEAD) as (worker, _, spec):
            orphan = make_spec(tmp_path, position=HEAD)
            stopped = make_spec(tmp_path, position=1)
            await ours.start(orphan)
            await (await ours.start(stopped)).kill()
            removed = await ours.sweep([spec.sandbox], HEAD)
            assert sorted(removed) == sorted([orphan.sandbox, stopped.sandbox])
            _, output = await worker.run("echo alive")
            assert output == b"alive\n"
            assert await ours.sweep([spec.sandbox], HEAD) == []
        assert await ours.sweep((), HEAD) == []
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert len(foreign) >= 5


async def test_a_sweep_without_a_head_takes_nothing_of_a_log(tmp_path: Path) -> None:
    """Where the log's head is not told, nothing that any log has asked for is an orphan."""
    ours = runtime_of()
    async with running(ours):
        spec = make_spec(tmp_path, position=1)
        await ours.start(spec)
        assert await ours.sweep(()) == []
        assert await ours.sweep((), 1) == [spec.sandbox]


async def test_removal_by_name_spares_look_alikes(foreign: list[str]) -> None:
    """Removing one sandbox takes only what has all labels of ours and its id."""
    ours = runtime_of(instance=INSTANCE)
    async with closing(ours):
        await ours.remove("s-3")
        await ours.remove(f"look-alike-4-{OWN}")
    assert foreign


async def test_what_becomes_known_meanwhile_is_spared(tmp_path: Path) -> None:
    """A sandbox that is claimed while the engine is being asked is no orphan any more."""
    ours = runtime_of()
    async with running(ours):
        spec = make_spec(tmp_path)
        await ours.start(spec)
        known: set[str] = set()
        listing = ours.engine.containers

        async def listed(*wanted: str) -> object:
            found = await listing(*wanted)
            known.add(spec.sandbox)
            return found

        ours.engine.containers = listed  # type: ignore[method-assign, assignment]  # the moment in between
        assert await ours.sweep(known) == []


@pytest.mark.parametrize("broken", ["position", "labels"])
async def test_a_careless_sweep_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """Negative control: a sweep that forgets positions, or takes half of the labels for all, removes a look-alike."""

    def careless(carried: dict[str, str]) -> labels.Owner | None:
        return labels.Owner(carried["chronicled.instance"], carried.get("chronicled.sandbox", ""), 0)

    monkeypatch.setattr(labels, "owner_of", careless)
    which = "of a copied data directory, further than our log" if broken == "position" else "half of the labels"
    victim = await asyncio.to_thread(made, f"chronicled-victim-{OWN}", FOREIGN[which])
    try:
        ours = runtime_of(instance=INSTANCE)
        async with closing(ours):
            assert await ours.sweep((), HEAD)
        assert await asyncio.to_thread(docker, "ps", "-aq", "--filter", f"id={victim}") == ""
    finally:
        if await asyncio.to_thread(docker, "ps", "-aq", "--filter", f"id={victim}"):
            engine("rm", "-f", victim)


async def test_an_engine_that_does_not_answer_proves_nothing(tmp_path: Path) -> None:
    """Without the engine neither a sweep nor a removal nor a search pretends to know."""
    absent = runtime_of(f"unix://{tmp_path}/none.sock")
    spec = make_spec(tmp_path)
    handle: dict[str, str | int] = {"container": "0" * 64, "engine": "e", "started_at": "", "boot_id": ""}
    with pytest.raises(SandboxUnreachable):
        await absent.sweep(())
    with pytest.raises(SandboxUnreachable):
        await absent.attach(handle, spec)
    assert await absent.epitaph(handle, spec) == "found_dead"
    await absent.engine.aclose()


async def test_another_engines_word_is_no_proof(tmp_path: Path) -> None:
    """That one engine does not know a container says nothing of the engine that started it."""
    ours = runtime_of()
    async with running(ours):
        async with serving(ours, tmp_path) as (_, sandbox, spec):
            handle = dict(sandbox.handle)
        assert await ours.attach(handle, spec) is None
        with pytest.raises(SandboxUnreachable, match="Another engine"):
            await ours.attach({**handle, "engine": "another"}, spec)
        assert await ours.attach({**handle, "engine": "another", "boot_id": "another boot"}, spec) is None
        assert await ours.epitaph({**handle, "boot_id": "another boot"}, spec) == "host_rebooted"
