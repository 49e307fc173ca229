from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.engine.fixture import DEBIAN, MUSL, Engine
from tests.integration.docker.host import docker, running, runtime_of, serving

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest, Volume
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.docker import birth, policy
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.plan import LIMITS_LEAST, Plan, ulimits_of
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import FrameWorker, make_spec

pytestmark = pytest.mark.usefixtures("engine")


def inspected(runtime: DockerRuntime) -> dict[str, Any]:
    """Return what the engine says of the runtime's one container."""
    label = f"label=chronicled.instance={runtime.instance}"
    (found,) = docker("ps", "-aq", "--filter", label).split()
    described: list[dict[str, Any]] = json.loads(docker("inspect", found))
    return described[0]


async def words(worker: FrameWorker, command: str) -> list[str]:
    """Return the words that a command prints."""
    _, output = await worker.run(command)
    return output.decode().split()


async def test_every_control_reads_back(tmp_path: Path) -> None:
    """The engine's own inspection shows every control of the hardened list, with the defaults of the configuration."""
    request = SandboxRequest(read_only=True)
    async with running(runtime_of(memory_bytes=1 << 30, cpus=1.0)) as runtime, serving(runtime, tmp_path, request):
        found = await asyncio.to_thread(inspected, runtime)
    host, configuration = found["HostConfig"], found["Config"]
    assert (host["NetworkMode"], list(found["NetworkSettings"]["Networks"])) == ("none", ["none"])
    assert (host["CapDrop"], host["CapAdd"] or [], host["Privileged"]) == (["ALL"], [], False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert configuration["User"] == "1000:1000"
    assert host["Init"] is True
    assert host["PidsLimit"] == 1024
    assert host["Memory"] == host["MemorySwap"] == 1 << 30
    assert host["NanoCpus"] == 10**9
    limits = {each["Name"]: each["Hard"] for each in host["Ulimits"]}
    assert limits["core"] == 0
    assert 0 < limits["nofile"] <= runtime.limits.hard["nofile"]
    assert 0 < limits["nproc"] <= max(runtime.limits.hard["nproc"], 1 << 20)
    assert host["ReadonlyRootfs"] is True
    assert not host["PortBindings"]
    assert not found["NetworkSettings"]["Ports"]
    assert host["LogConfig"]["Type"] == "none"
    assert host["RestartPolicy"]["Name"] == "no"
    assert (host["IpcMode"], host["PidMode"], host["UTSMode"], host["CgroupnsMode"]) == ("private", "", "", "private")
    extras = ("Devices", "DeviceRequests", "Binds", "VolumesFrom", "Sysctls", "GroupAdd", "Links")
    assert not any(host.get(name) for name in extras)
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/.chronicled": False,
        "/.chronicled/run": False,
        "/workspace": True,
    }
    assert not any("docker" in mount["Source"] and mount["Source"].endswith(".sock") for mount in found["Mounts"])
    assert configuration["Labels"]["chronicled.instance"] == runtime.instance
    assert configuration["Labels"]["chronicled.position"] == "0"


async def test_the_kernel_keeps_what_the_engine_says(tmp_path: Path) -> None:
    """Seen from a command: no capability in any set, no new privileges, seccomp filter, no network, own namespaces."""
    async with (
        running(runtime_of()) as runtime,
        serving(runtime, tmp_path, SandboxRequest(read_only=True)) as (worker, *_),
    ):
        status = dict(
            line.split(":\t", 1)
            for line in (await worker.run("cat /proc/self/status"))[1].decode().splitlines()
            if ":\t" in line
        )
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Uid"].split() == ["1000"] * 4
        assert await words(worker, "ls /sys/class/net") == ["lo"]
        assert await words(worker, "ulimit -c; ulimit -Hu; ulimit -Hn") == [
            "0",
            str(ulimits_of(SandboxRequest(), runtime.settings, runtime.limits)["nproc"]),
            str(min(65536, runtime.limits.hard["nofile"])),
        ]
        result, _ = await worker.run("touch /x /etc/x /.chronicled/x /.chronicled/run/x")
        assert result.fields["exit_code"] == 1
        result, _ = await worker.run("echo 'exit 7' >/tmp/x && chmod +x /tmp/x && touch /workspace/x && /tmp/x")
        assert result.fields["exit_code"] == 7
        _, output = await worker.run("cat /proc/1/comm; ls /var/run/docker.sock /run/docker.sock 2>&1")
        assert output.startswith(b"docker-init\n")
        assert output.count(b"No such file") == 2


async def test_nothing_that_the_server_was_told_is_shown(tmp_path: Path) -> None:
    """Token and the session's variables stand in no listing of the engine, and in no file once it has been greeted."""
    canary = "canary-5f1c"
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path, environment={"SECRET": canary}) as (worker, _, spec):
        assert not (Path(spec.socket_directory) / "settings").exists()
        shown = json.dumps(await asyncio.to_thread(inspected, runtime))
        shown += await asyncio.to_thread(docker, "ps", "-a", "--no-trunc", "--format", "{{json .}}")
        top = await asyncio.to_thread(docker, "top", f"chronicled-{spec.sandbox}", "-eo", "pid,args")
        assert "bootstrap.py" in top
        assert canary not in shown + top
        assert spec.token not in shown + top
        _, output = await worker.run("cat /.chronicled/run/settings; ls /.chronicled/run; echo $SECRET")
        assert output.count(b"No such file") == 1
        assert output.count(b"Permission denied") == 1
        assert output.endswith(f"{canary}\n".encode())


async def test_a_sandbox_owns_its_working_directory_and_no_other(tmp_path: Path) -> None:
    """The working directory belongs to the sandbox's user on the host, and what it writes there is seen there."""
    async with running(runtime_of()) as runtime:
        request = SandboxRequest(user="12345:54321")
        async with serving(runtime, tmp_path, request) as (worker, _, spec):
            assert await words(worker, "pwd; echo $HOME; id -u; id -g; echo seen > file; stat -c %u:%g file") == [
                "/workspace",
                "/workspace",
                "12345",
                "54321",
                "12345:54321",
            ]
            file = Path(spec.working_directory) / "file"
            assert (file.read_text(), file.stat().st_uid) == ("seen\n", 12345)


async def test_what_is_asked_for_is_given(tmp_path: Path) -> None:
    """Volumes, tmpfs, devices, limits and a working directory of the request are there, read-only where they should."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("shared\n")
    request = SandboxRequest(
        memory_bytes=256 << 20,
        cpus=0.5,
        processes_max=64,
        ulimits={"nofile": 512},
        working_directory="/tmp",
        volumes=[Volume(source=str(tmp_path / "shared"), target="/mnt/shared")],
        tmpfs={"/scratch": 1 << 20},
        devices=["/dev/null"],
    )
    settings: dict[str, Any] = {"volumes_allowed": (str(tmp_path),), "devices_allowed": ("/dev/null",)}
    async with running(runtime_of(**settings)) as runtime, serving(runtime, tmp_path, request) as (worker, *_):
        assert await words(worker, "pwd; cat /mnt/shared/file; ulimit -n") == ["/tmp", "shared", "512"]
        result, _ = await worker.run("touch /mnt/shared/other")
        assert result.fields["exit_code"] == 1
        assert (await words(worker, "df -k --output=size /scratch | tail -1")) == ["1024"]
        host = (await asyncio.to_thread(inspected, runtime))["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (256 << 20, 5 * 10**8, 64)


async def test_root_keeps_only_the_short_list(tmp_path: Path) -> None:
    """Where root is allowed it keeps seven capabilities, can give files away, and cannot make devices."""
    runtime = runtime_of(root_allowed=True)
    async with running(runtime), serving(runtime, tmp_path, SandboxRequest(user="0:0")) as (worker, *_):
        _, output = await worker.run("grep CapBnd /proc/self/status; chown 5:5 . && echo given; mknod /tmp/d c 1 3")
        assert f"{0b1111_1011:016x}".encode() in output
        assert b"given" in output
        assert b"Operation not permitted" in output


# -- refused ---------------------------------------------------------------------------------------------------------


def asking(volume: str = "", **values: Any) -> dict[str, Any]:
    """Return what a request has, with a volume below the test's directory."""
    return {**values, **({"volumes": [volume]} if volume else {})}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (asking("link"), "volumes"),
        (asking("data"), "volumes"),
        (asking("absent"), "volumes"),
        (asking("/var/run/docker.sock"), "volumes"),
        (asking(isolation="none-such"), "isolation"),
        (asking(network="none-such"), "network"),
        (asking(disk_bytes=1 << 30), "disk_bytes"),
        (asking(cpus=1000.0), "cpus"),
        (asking(user="0:0"), "user"),
        (asking(gpus=1), "gpus"),
        (asking(gpus=1), "device driver"),
        (asking(devices=["/dev/none-such"]), "none-such"),
    ],
)
async def test_what_cannot_be_given_is_refused_by_name(tmp_path: Path, asked: dict[str, Any], named: str) -> None:
    """A start with a request that cannot be given fails with the request's name, and leaves nothing behind."""
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "data").mkdir()
    settings: dict[str, Any] = {
        "volumes_allowed": (str(tmp_path), "/var/run/docker.sock"),
        "protected": [str(tmp_path / "data")],
    }
    settings |= {"devices_allowed": ("/dev/none-such",), "gpus_allowed": named == "device driver"}
    volumes = [Volume(source=str(tmp_path / each), target="/mnt") for each in asked.get("volumes", [])]
    values: dict[str, Any] = {**asked, "volumes": volumes}
    async with running(runtime_of(**settings)) as runtime:
        with pytest.raises(SandboxStartFailed, match=named):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(**values)))
        assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []


async def test_an_engine_that_limits_no_disk_says_so_with_its_driver(tmp_path: Path) -> None:
    """A disk limit is refused with the storage driver's name where the driver cannot, never left out."""
    async with running(runtime_of()) as runtime:
        facts = await runtime.engine.facts()
        if facts.limits_disk:
            pytest.skip("this engine's storage driver limits disks: an overlay2 on ext4 shows the refusal")
        with pytest.raises(SandboxStartFailed, match=facts.driver):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(disk_bytes=1 << 30)))


@pytest.mark.parametrize(("device", "given"), [("/etc", False), ("elsewhere", False), ("within", True)])
async def test_a_named_volume_is_no_other_name_of_a_path(
    tmp_path: Path, request: pytest.FixtureRequest, device: str, given: bool
) -> None:
    """A volume that the engine binds from a path of the host is judged as that path, whatever its name."""
    source = tmp_path / device
    source.mkdir(exist_ok=True)
    name = f"chronicled-test-{tmp_path.name}"
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={source}", name)
    request.addfinalizer(lambda: docker("volume", "rm", name))
    runtime = runtime_of(volumes_allowed=(name, str(tmp_path / "within")), image=MUSL)
    asked = SandboxRequest(volumes=[Volume(source=name, target="/mnt")])
    async with running(runtime):
        if given:
            async with serving(runtime, tmp_path, asked) as (worker, *_):
                assert await words(worker, "ls -A /mnt | wc -l") == ["0"]
        else:
            with pytest.raises(SandboxStartFailed, match=rf"volumes: {source} (leads to|would show)"):
                await runtime.start(make_spec(tmp_path, request=asked))


@pytest.mark.parametrize(
    ("lacks", "allowed", "told"),
    [
        ({"seccomp": False}, {}, "seccomp: the engine runs without it"),
        ({"swap_limit": False}, {}, "memory_bytes: the engine's kernel cannot limit swap"),
        ({"unkept": ("processes_max",)}, {}, "processes_max: the engine cannot limit it"),
        ({"runtimes": ("runc",)}, {"isolation": "gvisor"}, "isolation: the engine has no runtime 'runsc', only runc"),
        ({"cpus": 1}, {}, "cpus: 2 are asked for, the engine has 1"),
        ({"podman": True}, {"isolation": "gvisor"}, "isolation: Podman does not tell"),
    ],
)
async def test_what_an_engine_lacks_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: dict[str, Any], allowed: dict[str, Any], told: str
) -> None:
    """Of an engine that cannot give a control nothing is started, and the control is named."""
    async with running(runtime_of(**allowed)) as runtime:
        facts = await runtime.engine.facts()
        changed = {"runtimes": (*facts.runtimes, "runsc"), **lacks}

        async def lacking(*, fresh: bool = False) -> EngineFacts:
            return msgspec.structs.replace(facts, **changed)

        monkeypatch.setattr(runtime.engine, "facts", lacking)
        with pytest.raises(SandboxStartFailed, match=re.escape(told)):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(cpus=2.0)))
        assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []


async def test_what_is_mounted_below_a_volume_is_not_shown(tmp_path: Path) -> None:
    """Another file system within an allowed directory was not allowed: a sandbox finds the empty place below it."""
    inner = tmp_path / "shared" / "inner"
    inner.mkdir(parents=True)
    if await asyncio.to_thread(subprocess.call, ["mount", "-t", "tmpfs", "none", str(inner)]) != 0:
        pytest.skip("a mount takes root: run as root")
    try:
        (inner / "secret").write_text("secret\n")
        request = SandboxRequest(volumes=[Volume(source=str(tmp_path / "shared"), target="/mnt")])
        runtime = runtime_of(volumes_allowed=(str(tmp_path),))
        async with running(runtime), serving(runtime, tmp_path, request) as (worker, *_):
            assert await words(worker, "ls -A /mnt; ls -A /mnt/inner") == ["inner"]
    finally:
        await asyncio.to_thread(subprocess.check_call, ["umount", str(inner)])


# -- negative controls -----------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]
TAMPERED: dict[str, Change] = {
    "dropped capabilities": lambda body: body["HostConfig"].pop("CapDrop"),
    "added capabilities": lambda body: body["HostConfig"].update(CapAdd=["NET_RAW"]),
    "privileged": lambda body: body["HostConfig"].update(Privileged=True),
    "no-new-privileges": lambda body: body["HostConfig"].pop("SecurityOpt"),
    "seccomp": lambda body: body["HostConfig"]["SecurityOpt"].append("seccomp=unconfined"),
    "user": lambda body: body.pop("User"),
    "network": lambda body: body["HostConfig"].pop("NetworkMode"),
    "init": lambda body: body["HostConfig"].pop("Init"),
    "memory_bytes": lambda body: [body["HostConfig"].pop(name) for name in ("Memory", "MemorySwap")],
    "swap": lambda body: body["HostConfig"].update(MemorySwap=-1),
    "cpus": lambda body: body["HostConfig"].pop("NanoCpus"),
    "processes_max": lambda body: body["HostConfig"].pop("PidsLimit"),
    "ulimits": lambda body: body["HostConfig"]["Ulimits"].pop(0),
    "read_only": lambda body: body["HostConfig"].pop("ReadonlyRootfs"),
    "masked paths": lambda body: body["HostConfig"].update(MaskedPaths=[]),
    "read-only paths": lambda body: body["HostConfig"].update(ReadonlyPaths=[]),
    "process namespace": lambda body: body["HostConfig"].update(PidMode="host"),
    "ipc namespace": lambda body: body["HostConfig"].update(IpcMode="shareable"),
    "host name namespace": lambda body: [body.pop("Hostname"), body["HostConfig"].update(UTSMode="host")],
    "cgroup namespace": lambda body: body["HostConfig"].update(CgroupnsMode="host"),
    "out-of-memory score": lambda body: body["HostConfig"].pop("OomScoreAdj"),
    "log driver": lambda body: body["HostConfig"].pop("LogConfig"),
    "restart policy": lambda body: body["HostConfig"].update(RestartPolicy={"Name": "always"}),
    "binds": lambda body: body["HostConfig"].update(Binds=["/etc:/host:ro"]),
    "/.chronicled is": lambda body: body["HostConfig"]["Mounts"][0].update(ReadOnly=False),
    "/mnt is": lambda body: body["HostConfig"]["Mounts"].append(
        {"Type": "bind", "Source": "/var/run", "Target": "/mnt", "ReadOnly": True}
    ),
    "tmpfs": lambda body: body["HostConfig"]["Tmpfs"].update({"/other": "rw"}),
    "devices": lambda body: body["HostConfig"].update(
        Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]
    ),
    "kernel settings": lambda body: body["HostConfig"].update(Sysctls={"kernel.msgmax": "65536"}),
    "groups": lambda body: body["HostConfig"].update(GroupAdd=["0"]),
    "environment": lambda body: body.update(Env=["LD_PRELOAD=/lib/none-such.so"]),
    "environment of our own": lambda body: body["Env"].remove("LC_ALL=C"),
    "health check": lambda body: body.update(Healthcheck={"Test": ["CMD", "true"]}),
    "labels": lambda body: body["Labels"].pop("chronicled.worker"),
}
AT_ONCE: tuple[dict[str, Change], ...] = (
    {
        "standard input": lambda body: body.update(OpenStdin=True),
        "terminal": lambda body: body.update(Tty=True),
        "security options": lambda body: body["HostConfig"]["SecurityOpt"].append("label=disable"),
        "user namespace": lambda body: body["HostConfig"].update(UsernsMode="host"),
        "device rules": lambda body: body["HostConfig"].update(DeviceCgroupRules=["c 1:3 rwm"]),
        "shared memory": lambda body: body["HostConfig"].update(ShmSize=1 << 20),
        "out-of-memory killer": lambda body: body["HostConfig"].update(OomKillDisable=True),
        "parent cgroup": lambda body: body["HostConfig"].update(CgroupParent="/docker"),
    },
    {
        "image": lambda body: body.update(Image=MUSL),
        "networks": lambda body: body["HostConfig"].update(NetworkMode="bridge"),
        "published ports": lambda body: body["HostConfig"].update(PortBindings={"80/tcp": [{"HostPort": ""}]}),
        "published ports, all": lambda body: body["HostConfig"].update(PublishAllPorts=True),
        "name servers": lambda body: body["HostConfig"].update(Dns=["192.0.2.1"]),
        "hosts": lambda body: body["HostConfig"].update(ExtraHosts=["registry:192.0.2.1"]),
        "removal by the engine": lambda body: body["HostConfig"].update(AutoRemove=True),
    },
)
"""What hides nothing of each other, several at a time."""


def named(control: str) -> str:
    """Return what an error looks like that names this control, and not one whose name only begins alike."""
    return rf"[:;] (mounts: )?{re.escape(control)}( |: )(?!of our own)"


@pytest.mark.parametrize("control", sorted(TAMPERED))
async def test_a_control_that_got_lost_is_noticed(
    control: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: when the policy forgets a control, or says another, the start fails and names it."""

    def tampered(plan: Plan) -> dict[str, Any]:
        body = policy.container_body(plan)
        TAMPERED[control](body)
        return body

    async with running(runtime_of()) as runtime:
        monkeypatch.setattr(birth, "container_body", tampered)
        with pytest.raises(SandboxStartFailed, match=named(control)):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(read_only=True)))
        left = [] if control == "labels" else await runtime.engine.containers(f"chronicled.instance={runtime.instance}")
        assert left == []
    await asyncio.to_thread(_clear, tmp_path)


@pytest.mark.parametrize("changes", AT_ONCE, ids=["first", "second"])
async def test_controls_that_got_lost_are_all_named(
    changes: dict[str, Change], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: several at once are each told."""

    def tampered(plan: Plan) -> dict[str, Any]:
        body = policy.container_body(plan)
        for change in changes.values():
            change(body)
        return body

    async with running(runtime_of()) as runtime:
        monkeypatch.setattr(birth, "container_body", tampered)
        with pytest.raises(SandboxStartFailed) as failed:
            await runtime.start(make_spec(tmp_path))
        assert [control for control in changes if not re.search(named(control), failed.value.detail)] == []
        assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []


def _clear(directory: Path) -> None:
    for sandbox in (directory / "sockets").iterdir():
        if left := docker("ps", "-aq", "--filter", f"name=chronicled-{sandbox.name}"):
            docker("rm", "-f", left)


async def test_a_volume_that_was_swapped_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that becomes a link to a protected one after it was allowed does not get into a sandbox."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()

    def swapped(plan: Plan) -> dict[str, Any]:
        (tmp_path / "allowed").rmdir()
        (tmp_path / "allowed").symlink_to(tmp_path / "secret")
        return policy.container_body(plan)

    monkeypatch.setattr(birth, "container_body", swapped)
    request = SandboxRequest(volumes=[Volume(source=str(tmp_path / "allowed"), target="/mnt")])
    settings: dict[str, Any] = {"volumes_allowed": (str(tmp_path),), "protected": [str(tmp_path / "secret")]}
    async with running(runtime_of(**settings)) as runtime:
        with pytest.raises(SandboxStartFailed, match="volumes: /mnt"):
            await runtime.start(make_spec(tmp_path, request=request))


def test_the_default_image_is_one_of_ours(engine: Engine) -> None:
    """The suite runs on an image that a script of ours makes."""
    assert engine("image", "inspect", "-f", "{{.Id}}", DEBIAN)


@pytest.mark.parametrize("limits", [LIMITS_LEAST, {"nofile": LIMITS_LEAST["nofile"]}], ids=["all", "files"])
async def test_the_least_limits_leave_a_sandbox_that_works(tmp_path: Path, limits: dict[str, int]) -> None:
    """At the lowest limits that are given, lanes come up, print, can be interrupted and time out."""
    runtime = runtime_of()
    request = SandboxRequest(ulimits={**limits})
    assert runtime.refuses(request, MUSL) == []
    async with running(runtime), serving(runtime, tmp_path, request, image=MUSL) as (worker, _, _):
        result, output = await worker.run("head -c 100000 /dev/zero | tr '\\0' x | cat | wc -c")
        assert (result.outcome, output) == ("ok", b"100000\n")
        result, _ = await worker.run("sleep 60", timeout_seconds=0.2)
        assert (result.outcome, result.state_lost) == ("timeout", False)
        action = await worker.dispatch("run", {"command": "sleep 60"}, lane="other")
        await worker.frame(frames.Started, action=action)
        await worker.send(frames.Cancel(action=action))
        assert (await worker.result(action)).outcome == "cancelled"
