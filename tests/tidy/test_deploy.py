"""What is deployed holds together: unit, user, and what the page about them says."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

from chronicled.client.address import SYSTEM_SOCKET
from chronicled.daemon import locations

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "chronicled.service").read_text()
PAGE = (DEPLOY / "README.md").read_text()


class Options(configparser.RawConfigParser):
    """The options of a unit, in their own spelling."""

    def optionxform(self, optionstr: str) -> str:
        """Keep upper and lower case."""
        return optionstr


def service() -> configparser.SectionProxy:
    """Return the unit's own options."""
    options = Options(strict=False)
    options.read_string(UNIT)
    return options["Service"]


def test_the_units_user_is_the_one_that_is_made() -> None:
    """The unit's user is static, and the file for systemd-sysusers makes it."""
    made = re.search(r"^u (\S+)", (DEPLOY / "chronicled.sysusers").read_text(), re.MULTILINE)
    assert made is not None
    assert service()["User"] == made[1]
    assert "DynamicUser" not in service()


def test_the_units_directories_are_those_that_daemon_client_and_page_know() -> None:
    """State, sockets and configuration are where the daemon takes them from, and where the page says."""
    environment = {
        f"{kind.upper()}_DIRECTORY": f"{root}/{service()[f'{kind.title()}Directory']}"
        for kind, root in (("state", "/var/lib"), ("runtime", "/run"), ("configuration", "/etc"))
    }
    socket = f"{locations.runtime_directory(environment)}/chronicled.sock"
    assert socket == SYSTEM_SOCKET
    for path in (socket, locations.data_directory(environment), locations.configuration_file(environment)):
        assert f"`{path}`" in PAGE, path


def test_a_stop_leaves_what_runs_alone() -> None:
    """Sandboxes outlive the daemon: only it is ended, and the directory of their sockets stays."""
    assert service()["KillMode"] == "process"
    assert service()["RuntimeDirectoryPreserve"] == "yes"
    assert service()["Type"] == "notify"


def test_systemd_knows_every_option_of_the_unit(tmp_path: Path) -> None:
    """Where there is a systemd, it has nothing to remark on the unit; of one with an unknown option it has."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return  # what it would say is not this machine's business

    def remarks(text: str) -> str:
        path = tmp_path / "chronicled.service"
        path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        done = subprocess.run([tool, "verify", path], capture_output=True, text=True, timeout=60, check=False)
        return done.stderr

    assert "chronicled.service:" not in remarks(UNIT)
    assert "chronicled.service:" in remarks(UNIT.replace("NoNewPrivileges=", "NoNewPrivilege="))
