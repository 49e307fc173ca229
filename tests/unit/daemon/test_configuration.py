from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from chronicled.daemon import locations
from chronicled.daemon.configuration import load
from chronicled.events.errors import ConfigurationError, Refused


def write(path: Path, text: str) -> str:
    """Write a configuration file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """Each source overrides the one before it, setting by setting."""
    file = write(tmp_path / "c.toml", '[log]\nlevel = "error"\nform = "json"\n[limits]\nwaits_max = 7\n')
    environment = {"CHRONICLED_LOG__LEVEL": "warning", "CHRONICLED_LOG__FORM": "console"}
    configuration = load(file, environment, {"log.level": "debug", "data.store": None})
    assert configuration.log.level == "debug"
    assert configuration.log.form == "console"
    assert configuration.limits.waits_max == 7
    assert configuration.data.store == "sqlite"


def test_the_users_own_file_is_read_if_it_exists(tmp_path: Path) -> None:
    """Without --config the file in the XDG configuration directory counts; its absence is no error."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load(None, environment).limits.waits_max == 512
    write(tmp_path / "chronicled" / "config.toml", "[limits]\nwaits_max = 3\n")
    assert load(None, environment).limits.waits_max == 3


@pytest.mark.parametrize(
    ("file", "environment", "flags", "named"),
    [
        ("[htp]\nsocket = 'x'\n", {}, {}, "'htp'"),
        ("[http]\nsoket = 'x'\n", {}, {}, "'http.socket'"),
        ("socket = 'x'\n", {}, {}, "'socket'"),
        ("[http]\nsocket = 1\n", {}, {}, "http.socket"),
        ("[limits]\nwaits_max = '3'\n", {}, {}, "limits.waits_max"),
        ("[limits]\nwaits_max = 0\n", {}, {}, "limits.waits_max"),
        ("[http\n", {}, {}, "line 1"),
        ("[htp]\n", {}, {}, "'htp'"),
        ("", {}, {"htp.socket": "x"}, "'htp.socket'"),
        ("a = " + "[" * 20_000, {}, {}, "too deep"),
        ("", {"CHRONICLED_HTTP__SOKET": "x"}, {}, "CHRONICLED_HTTP__SOKET"),
        ("", {"CHRONICLED_LOG_LEVEL": "info"}, {}, "CHRONICLED_LOG__LEVEL"),
        ("", {"CHRONICLED_DATA": "/x"}, {}, "CHRONICLED_DATA__KEY"),
        ("", {"CHRONICLED_HTTP__ALLOWED_UIDS": "1,x"}, {}, "http.allowed_uids"),
        ("", {}, {"log.level": "loud"}, "log.level"),
        ("", {}, {"log.levl": "info"}, "'log.level'"),
        ("", {}, {"http.address": "8080"}, "http.address"),
        ("", {}, {"http.address": "0.0.0.0:80"}, "loopback"),
        ("", {}, {"http.address": "127.0.0.1:99999"}, "http.address"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, file: str, environment: dict[str, str], flags: dict[str, Any], named: str
) -> None:
    """An unknown key or a value that does not fit is an error that names it, its source and the nearest key."""
    path = write(tmp_path / "c.toml", file)
    with pytest.raises(ConfigurationError) as raised:
        load(path, environment, flags)
    assert named in raised.value.detail


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """--config with a path that is not there is an error, never silently the defaults."""
    with pytest.raises(ConfigurationError, match="no file"):
        load(str(tmp_path / "none.toml"), {})


def test_lists_in_the_environment_are_comma_separated_or_json() -> None:
    """A list in a variable is JSON, or split at commas and spaces; what names no section is not ours to judge."""
    assert load(None, {"CHRONICLED_SOCKET": "/s", "CHRONICLED_TOKEN": "x"}).http.socket != "/s"
    assert load(None, {"CHRONICLED_HTTP__ALLOWED_UIDS": "1000, 1001"}).http.allowed_uids == (1000, 1001)
    assert load(None, {"CHRONICLED_HTTP__ALLOWED_UIDS": "[1000, 1001]"}).http.allowed_uids == (1000, 1001)


def test_defaults_are_the_xdg_directories(tmp_path: Path) -> None:
    """Data is in the state directory, socket and sandboxes' sockets in the runtime directory."""
    environment = {"XDG_STATE_HOME": "/state", "XDG_RUNTIME_DIR": "/run/u"}
    configuration = load(None, environment)
    assert configuration.data.directory == "/state/chronicled"
    assert configuration.http.socket == "/run/u/chronicled/chronicled.sock"
    assert configuration.data.runtime_directory == "/run/u/chronicled"


def test_a_daemon_of_its_own_place_keeps_its_sandboxes_apart() -> None:
    """With data or socket elsewhere nothing of the sandboxes is shared with the user's default daemon."""
    for flags in ({"data.directory": "/d"}, {"data.directory": "/d", "http.socket": "/s"}):
        assert load(None, {"XDG_RUNTIME_DIR": "/run/u"}, flags).data.runtime_directory == "/d/run"


def test_systemd_directories_win() -> None:
    """Under a unit its own directories are taken."""
    environment = {
        "STATE_DIRECTORY": "/var/lib/chronicled",
        "RUNTIME_DIRECTORY": "/run/chronicled",
        "CONFIGURATION_DIRECTORY": "/etc/chronicled",
    }
    assert locations.configuration_file(environment) == "/etc/chronicled/config.toml"
    assert locations.data_directory(environment) == "/var/lib/chronicled"
    assert locations.runtime_directory(environment) == "/run/chronicled"


def test_without_a_runtime_directory_there_is_a_fallback() -> None:
    """Where XDG_RUNTIME_DIR is missing or not absolute, a directory of the user's own is named."""
    for environment in ({}, {"XDG_RUNTIME_DIR": "relative"}):
        path = locations.runtime_directory(environment)
        assert os.path.isabs(path)
        assert str(os.geteuid()) in path


def test_a_private_directory_is_made_or_refused(tmp_path: Path) -> None:
    """What is made is 0700; a directory that others may write to, or a file, is refused."""
    made = locations.make_private(str(tmp_path / "a" / "b"))
    assert os.stat(made).st_mode & 0o777 == 0o700
    os.chmod(made, 0o777)
    with pytest.raises(Refused, match="chmod"):
        locations.make_private(made)
    (tmp_path / "file").touch()
    with pytest.raises(Refused):
        locations.make_private(str(tmp_path / "file"))
    for path in (tmp_path / "file" / "sub", Path("/proc/none/sub")):
        with pytest.raises(Refused, match="cannot be made"):
            locations.make_private(str(path))
