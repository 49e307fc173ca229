"""Git: what it tells of real repositories, and what hostile ones cannot have it run.

A repository is data of whoever wrote it: its settings and attributes can name programs in some twenty ways. Each is
planted here with a program that leaves a mark, and a plain git is the negative control that leaves it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome

COMMANDS = ("status", "changes", "diff")


class Repository(Actor):
    """A work tree with two commits in it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "tree")
        self.directory.mkdir()
        self.mark = directory / "mark"
        self.program = directory / "evil"
        self.program.write_text(f"#!/bin/sh\ntouch '{self.mark}'\ncat\n")
        self.program.chmod(0o755)
        self.git("init", "-q", "-b", "main")
        self.write("a.txt", b"one\ntwo\nthree\n")
        self.write("dir/b.txt", b"b\n")
        self.write("binary", bytes(range(256)))
        self.commit()

    def git(self, *arguments: str) -> str:
        """Run git as a person would, with a person's settings."""
        program = shutil.which("git")
        assert program, "git is needed here: install it"
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
        # From 2.47 on a commit leaves a process behind that tidies up among its files while they are being looked at.
        alone = ("-c", "maintenance.auto=false")
        command = [program, *identity, *alone, *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, check=True)
        return done.stdout.decode(errors="replace")

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the work tree."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def commit(self) -> None:
        """Commit everything."""
        self.git("add", "-A")
        self.git("commit", "-qm", "x")

    async def ask(self, command: str, **payload: Any) -> dict[str, Any]:
        """Ask, and return what the observation tells."""
        ended = await self.act("git", command=command, **payload)
        assert ended.outcome is Outcome.OK, ended
        return {"message": ended.message} | ended.fields


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository that nothing has been changed in."""
    return Repository(tmp_path)


def ran(*command: str, directory: Path, data: bytes = b"") -> None:
    """Run another program and fail if it fails."""
    done = subprocess.run(command, cwd=directory, input=data, capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr)


def by_path(fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the changes by path."""
    return {change["path"]: change for change in fields["changes"]}


async def test_status_tells_head_index_and_work_tree(repository: Repository) -> None:
    """Staged, changed, deleted, renamed, untracked and conflicting files, each with its letters, and where HEAD is."""
    assert (await repository.ask("status"))["changes"] == []
    repository.write("a.txt", b"one\n2\nthree\n")
    repository.write("new file", b"n\n")
    repository.write("staged", b"s\n")
    repository.git("add", "staged")
    repository.git("mv", "dir/b.txt", "dir/ünï")
    (repository.directory / "binary").unlink()
    fields = await repository.ask("status", path="dir")
    found = by_path(fields)
    assert {
        path: (change["status"], change.get("index"), change.get("worktree")) for path, change in found.items()
    } == {
        "a.txt": ("modified", ".", "M"),
        "binary": ("deleted", ".", "D"),
        "dir/ünï": ("renamed", "R", "."),
        "new file": ("untracked", None, None),
        "staged": ("added", "A", "."),
    }
    assert found["dir/ünï"]["former_path"] == "dir/b.txt"
    assert (fields["branch"], len(fields["commit"]), fields["root"]) == ("main", 40, str(repository.directory))
    assert (fields["changes_count"], fields["truncated"]) == (5, False)
    assert "new file" not in by_path(await repository.ask("status", untracked=False))
    assert list(by_path(await repository.ask("status", paths=["dir", "staged"]))) == ["dir/ünï", "staged"]


async def test_status_of_a_conflict_and_of_an_upstream(repository: Repository, tmp_path: Path) -> None:
    """A conflict is unmerged; a branch tells its upstream and how far both are apart; a detached HEAD has no branch."""
    repository.git("clone", "-q", ".", str(tmp_path / "clone"))
    clone = Repository.__new__(Repository)
    Actor.__init__(clone, tmp_path / "clone")
    clone.write("c", b"c\n")
    clone.commit()
    fields = await clone.ask("status")
    assert (fields["upstream"], fields["ahead"], fields["behind"]) == ("origin/main", 1, 0)
    repository.git("checkout", "-qb", "side")
    repository.write("a.txt", b"side\n")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("a.txt", b"main\n")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "-q", "side")
    change = by_path(await repository.ask("status"))["a.txt"]
    assert (change["status"], change["index"], change["worktree"]) == ("unmerged", "U", "U")
    repository.git("checkout", "-qf", "HEAD~0")
    assert (await repository.ask("status")).get("branch") is None


async def test_changes_count_lines_and_find_renames(repository: Repository) -> None:
    """Each file that differs from a base, with lines added and deleted, what is binary, renamed or new."""
    base = repository.git("rev-parse", "HEAD").strip()
    repository.write("a.txt", b"one\n2\n2b\nthree\n")
    repository.write("binary", bytes(reversed(range(256))))
    repository.write("moved", b"".join(b"line %d\n" % number for number in range(50)))
    repository.commit()
    repository.git("mv", "moved", "there")
    repository.write("new", b"x\n")
    os.symlink("a.txt", repository.directory / "link")
    found = by_path(await repository.ask("changes", base=base))
    assert {path: change["status"] for path, change in found.items()} == {
        "a.txt": "modified",
        "binary": "modified",
        "there": "added",
        "new": "untracked",
        "link": "untracked",
    }
    assert (found["a.txt"]["lines_added"], found["a.txt"]["lines_deleted"], found["binary"]["binary"]) == (2, 1, True)
    found = by_path(await repository.ask("changes", paths=["there", "moved"]))
    assert (found["there"]["status"], found["there"]["former_path"]) == ("renamed", "moved")
    assert list(found) == ["there"]


async def test_a_difference_can_be_applied(repository: Repository, tmp_path: Path) -> None:
    """The text of `diff`, new files and all, applied to a fresh checkout makes the same tree."""
    repository.git("clone", "-q", ".", str(tmp_path / "clone"))
    repository.write("a.txt", b"one\r\n2\nthree")
    repository.write("new/ünï é.txt", b"no end")
    repository.write("empty", b"")
    shutil.rmtree(repository.directory / "dir")
    repository.write("run", b"#!/bin/sh\n")
    (repository.directory / "run").chmod(0o755)
    content = (await repository.ask("diff"))["content"]
    ran("git", "apply", "--whitespace=nowarn", "-", directory=tmp_path / "clone", data=content.encode())
    shutil.rmtree(tmp_path / "clone" / ".git")
    shutil.rmtree(repository.directory / ".git")
    ran("diff", "-r", str(repository.directory), str(tmp_path / "clone"), directory=tmp_path)
    assert (tmp_path / "clone" / "run").stat().st_mode & 0o100


async def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    """Before the first commit everything is new: compared with nothing."""
    repository = Repository.__new__(Repository)
    Actor.__init__(repository, tmp_path)
    repository.git("init", "-q", "-b", "main")
    repository.write("a", b"1\n")
    repository.write("b", b"2\n")
    repository.git("add", "a")
    fields = await repository.ask("status")
    assert (fields.get("commit"), fields["branch"]) == (None, "main")
    assert {path: each["status"] for path, each in by_path(await repository.ask("changes")).items()} == {
        "a": "added",
        "b": "untracked",
    }
    content = (await repository.ask("diff"))["content"]
    assert ("+1\n" in content, "+2\n" in content) == (True, True)


async def test_what_cannot_be_asked_is_told(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No repository, no such revision, no git, options in place of a revision: each by name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    assert (await repository.act("git", command="status", path=str(outside))).reason == "no_repository"
    assert (await repository.act("git", command="status", path="none")).reason == "not_found"
    assert (await repository.act("git", command="diff", base="nothing")).reason == "no_revision"
    senseless: list[dict[str, Any]] = [
        {"base": "--output=x"},
        {"base": "a\nb"},
        {"paths": ["../x"]},
        {"paths": ["/etc"]},
    ]
    for payload in senseless:
        ended = await repository.act("git", command="diff", **payload)
        assert (ended.outcome, ended.effects) == (Outcome.ERROR, Effects.NONE), payload
    # One that stands in the folder itself is not taken for it.
    shutil.copy(repository.program, repository.directory / "git")
    monkeypatch.chdir(repository.directory)
    for environment in ({}, {b"PATH": b".:bin:/none"}):
        ended = await Actor(repository.directory, environment).act("git", command="status")
        assert (ended.outcome, "no git in the sandbox" in (ended.message or "")) == (Outcome.ERROR, True)


async def test_names_of_any_bytes_and_patterns_as_names(repository: Repository) -> None:
    """Newlines, quotes, tabs, bytes that are no UTF-8 and pathspec magic are names and nothing else."""
    names = [b"new\nline", b'quo"te', b"tab\t", b"\xff\xfe", b":(top)x", b"*", b" lead", b"-rf"]
    for name in names:
        (repository.directory / os.fsdecode(name)).write_bytes(b"x\n")
    for command in ("status", "changes"):
        fields = await repository.ask(command)
        assert {each.get("path_bytes") or each["path"] for each in fields["changes"]} == {
            "//4=" if name == b"\xff\xfe" else name.decode() for name in names
        }
    found = await repository.ask("status", paths=["*", ":(top)x"])
    assert sorted(by_path(found)) == ["*", ":(top)x"]
    assert "+x" in (await repository.ask("diff", paths=["new\nline"]))["content"]


async def test_much_is_cut_and_counted(repository: Repository) -> None:
    """Thousands of files and megabytes of differences come cut, and say so, in what an event and a frame can hold."""
    for number in range(3000):
        repository.write(f"many/{number:05}{'x' * 60}", b"")
    fields = await repository.ask("status")
    assert (fields["changes_count"], fields["truncated"], len(fields["changes"]) < 1000) == (3000, True, True)
    repository.write("a.txt", b"y" * 79 + b"\n" + b"z\n" * 2_000_000)
    fields = await repository.ask("diff")
    assert (fields["truncated"], len(fields["content"]) <= 1 << 20) == (True, True)


def settings_attack(*settings: str) -> Any:
    """Plant settings in the repository's configuration; `{}` is the program."""

    def plant(repository: Repository) -> None:
        for setting in settings:
            name, _, value = setting.partition("=")
            repository.git("config", name, value.format(repository.program))

    return plant


def attribute_attack(attributes: str, *settings: str) -> Any:
    """Plant settings, and attributes that call for them."""

    def plant(repository: Repository) -> None:
        settings_attack(*settings)(repository)
        (repository.directory / ".git/info").mkdir(exist_ok=True)
        (repository.directory / ".git/info/attributes").write_text(attributes)

    return plant


def hook_attack(repository: Repository) -> None:
    """Plant the program as every hook that git knows."""
    for name in ("post-index-change", "post-checkout", "pre-commit", "fsmonitor-watchman", "reference-transaction"):
        hook = repository.directory / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(repository.program.read_text())
        hook.chmod(0o755)
    repository.git("config", "core.untrackedCache", "true")


def include_attack(repository: Repository) -> None:
    """Plant a filter in a file that the configuration includes."""
    (repository.directory / ".git/more").write_text(f'[filter "x"]\n\tclean = {repository.program}\n')
    attribute_attack("* filter=x\n", "include.path=more")(repository)


def submodule_attack(repository: Repository) -> None:
    """Plant a monitor in the settings of a submodule, and have submodules looked into."""
    inner = repository.directory.parent / "inner"
    inner.mkdir()
    repository.git("init", "-q", str(inner))
    repository.git("-C", str(inner), "commit", "-q", "--allow-empty", "-m", "x")
    repository.git("submodule", "--quiet", "add", str(inner), "sub")
    repository.git("commit", "-qm", "sub")
    module = str(repository.directory / "sub")
    for name in ("core.fsmonitor", "filter.x.clean", "diff.external"):
        repository.git("-C", module, "config", name, str(repository.program))
    (repository.directory / "sub/f").write_text("x")
    settings_attack("diff.ignoreSubmodules=none", "status.submoduleSummary=true", "submodule.recurse=true")(repository)
    settings_attack("submodule.sub.ignore=none", "diff.submodule=diff")(repository)


def promise_attack(repository: Repository) -> None:
    """Have a needed object missing, and a remote that would bring it by running a program."""
    settings_attack(
        "extensions.partialClone=evil",
        "remote.evil.url=ext::{}",
        "remote.evil.promisor=true",
        "remote.evil.uploadpack={}",
        "protocol.ext.allow=always",
    )(repository)
    blob = repository.git("rev-parse", "HEAD:a.txt").strip()
    (repository.directory / ".git/objects" / blob[:2] / blob[2:]).unlink()


ATTACKS: dict[str, Any] = {
    "fsmonitor": settings_attack("core.fsmonitor={}"),
    "external diff": settings_attack("diff.external={}"),
    "driver": attribute_attack("* diff=x\n", "diff.x.command={}"),
    "textconv": attribute_attack("* diff=x\n", "diff.x.textconv={}"),
    "clean": attribute_attack("* filter=x\n", "filter.x.clean={}"),
    "process": attribute_attack("* filter=x\n", "filter.x.process={}", "filter.x.required=true"),
    "smudge": attribute_attack("* filter=x\n", "filter.x.smudge={}"),
    "odd filter": attribute_attack('* filter=a.b"c\n', 'filter.a.b"c.clean={}'),
    "pager": settings_attack("core.pager={}", "pager.status={}", "pager.diff={}"),
    "editor": settings_attack("core.editor={}", "sequence.editor={}"),
    "ssh": settings_attack("core.sshCommand={}", "core.gitProxy={}", "core.askPass={}"),
    "credentials": settings_attack("credential.helper=!{}"),
    "gpg": settings_attack("gpg.program={}", "log.showSignature=true"),
    "alias": settings_attack("alias.status=!{}", "alias.diff=!{}", "alias.rev-parse=!{}"),
    "hooks path": settings_attack("core.hooksPath={}"),
    "alternates": settings_attack("core.alternateRefsCommand={}"),
    "hooks": hook_attack,
    "include": include_attack,
    "submodule": submodule_attack,
    "promise": promise_attack,
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_nothing_of_a_repository_runs(repository: Repository, name: str) -> None:
    """Whatever program its settings, attributes, hooks, submodules or remotes name, asking about it runs none."""
    ATTACKS[name](repository)
    repository.mark.unlink(missing_ok=True)
    repository.write("a.txt", b"changed\n")
    repository.write("dir/b.txt", b"B\n")
    os.utime(repository.directory / "binary")
    for command in COMMANDS:
        ended = await repository.act("git", command=command)
        assert ended.outcome is Outcome.OK or name == "promise", ended
        assert not repository.mark.exists(), command
    assert not list(repository.directory.glob(".git/*.lock"))


@pytest.mark.parametrize("name", ["fsmonitor", "external diff", "driver", "textconv", "clean", "submodule"])
def test_a_plain_git_runs_it(repository: Repository, name: str) -> None:
    """The negative control: the same repositories have a plain git run their programs."""
    ATTACKS[name](repository)
    repository.mark.unlink(missing_ok=True)
    repository.write("a.txt", b"changed\n")
    os.utime(repository.directory / "binary")
    for command in ("status", "diff"):
        subprocess.run(["git", command], cwd=repository.directory, capture_output=True)
    assert repository.mark.exists()


async def test_a_filter_that_did_not_run_is_told(repository: Repository) -> None:
    """Files that a filter changes may count as modified then, so the observation says that it was off."""
    ATTACKS["clean"](repository)
    assert "(x)" in (await repository.ask("status"))["message"]
    repository.git("config", "filter.a=b.clean", "x")
    ended = await repository.act("git", command="status")
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "unsafe_repository")


async def test_a_work_tree_elsewhere_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Settings that put the work tree somewhere else, or a bare repository among the files, are not followed."""
    repository.git("config", "core.worktree", str(tmp_path))
    (tmp_path / "unrelated").mkdir()
    ended = await repository.act("git", command="status")
    assert ended.reason == "unsafe_repository"
    repository.git("config", "core.worktree", "/usr")
    assert (await repository.act("git", command="status")).reason in {"unsafe_repository", "no_repository"}
    bare = tmp_path / "bare"
    ran("git", "init", "-q", "--bare", str(bare), directory=tmp_path)
    assert (await repository.act("git", command="status", path=str(bare))).reason == "no_repository"


async def test_the_files_owner_does_not_matter(repository: Repository) -> None:
    """A work tree that belongs to another user can be asked about: nothing of it runs, so there is nothing to trust."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away: run it as root")
    for path in [repository.directory, *repository.directory.rglob("*")]:
        os.lchown(path, 12345, 12345)
    for command in COMMANDS:
        await repository.ask(command)
