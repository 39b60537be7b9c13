# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of loncapa_apache.conf and loncapa.conf, and `check --explain` (contract.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lonc_gevent.cli.check import command
from lonc_gevent.configuration.files import Examined, examine

if TYPE_CHECKING:
    from pathlib import Path

APACHE = """\
PerlSetVar lonTabDir    {0}
PerlSetVar lonSockDir   {0}/sockets
PerlSetVar lonSockCreate {0}/sockets/common_parent
PerlSetVar lonDaemons   {0}
PerlSetVar lonDocRoot   {0}
PerlSetVar londPort     5663
PerlSetVar lonCertificateDirectory {0}/certs
PerlSetVar lonnetPrivateKey lonKey.pem
PerlSetVar lonnetCertificate lonhostcert.pem
PerlSetVar lonnetCertificateAuthority loncapaCA.pem
"""
CONF = "PerlSetVar lonHostID msul1\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write both files as a LON-CAPA server has them, and a lonc.toml that names their folder."""
    (tmp_path / "loncapa_apache.conf").write_text(APACHE.format(tmp_path))
    (tmp_path / "loncapa.conf").write_text(CONF)
    (tmp_path / "hosts.tab").write_text("msul1:msu:library:one.example\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "lon-status").mkdir()
    name_conf(tmp_path, tmp_path)
    return tmp_path


def name_conf(tree: Path, conf: Path, more: str = "") -> None:
    (tree / "lonc.toml").write_text(f'[network]\nloncapa_conf = "{conf}"\n{more}')


def examined(tree: Path) -> Examined:
    return examine(tree / "lonc.toml")


def explained(tree: Path) -> dict[str, str]:
    """Run `check --explain`; return the value and the origin of each key."""
    result = CliRunner().invoke(command, ["--config", str(tree / "lonc.toml"), "--explain"])
    lines = [line.split(" = ", 1) for line in result.stdout.splitlines() if " = " in line]
    return {key: rest.replace(f"{tree}/", "") for key, rest in lines}


@pytest.mark.parametrize("name", [".", "loncapa.conf"])
def test_both_files_fill_keys_each_with_its_origin(tree: Path, name: str) -> None:
    name_conf(tree, tree / name)
    keys = explained(tree)
    settings = examined(tree).accepted().settings
    assert settings.network.certificate == f"{tree}/certs/lonhostcert.pem"
    assert settings.network.private_key == f"{tree}/certs/lonKey.pem"
    assert settings.network.ca_certificate == f"{tree}/certs/loncapaCA.pem"
    assert settings.network.key_directory == f"{tree}/certs"
    assert settings.daemon.report_file == f"{tree}/lon-status/loncstatus.txt"
    assert settings.sockets.common_parent == f"{tree}/sockets/common_parent"
    assert keys["network.host_id"] == '"msul1"  # loncapa.conf: line 1 (lonHostID)'
    assert keys["network.lond_port"] == "5663  # loncapa_apache.conf: line 6 (londPort)"
    assert keys["pool.max_connections"] == "5  # default"
    assert keys["network.loncapa_conf"].endswith("  # lonc.toml: line 2")


def test_loncapa_conf_overrides_loncapa_apache_conf(tree: Path) -> None:
    (tree / "loncapa.conf").write_text(CONF + "PerlSetVar londPort 5664\n")
    assert explained(tree)["network.lond_port"] == "5664  # loncapa.conf: line 2 (londPort)"


def test_one_file_alone_is_read(tree: Path) -> None:
    (tree / "loncapa_apache.conf").write_text(APACHE.format(tree) + CONF)
    (tree / "loncapa.conf").unlink()
    keys = explained(tree)
    assert keys["network.host_id"] == '"msul1"  # loncapa_apache.conf: line 11 (lonHostID)'
    assert not examined(tree).problems

    name_conf(tree, tree / "loncapa.conf")
    [*_, problem] = map(str, examined(tree).problems)
    assert "missing" in problem
    assert "does not exist" in str(examined(tree).problems[0]), "a file that is named must exist"


def test_directory_without_either_file_is_a_problem(tree: Path) -> None:
    (tree / "empty").mkdir()
    name_conf(tree, tree / "empty", 'host_id = "msul1"\nhosts_tab = "hosts.tab"\n')
    [problem] = map(str, examined(tree).problems)
    assert problem.endswith("is a directory without loncapa.conf; expected a file that can be read")


def test_key_that_overrides_another_value_is_a_warning_and_wins(tree: Path) -> None:
    name_conf(tree, tree, "lond_port = 7\n")
    [problem] = examined(tree).problems
    assert str(problem).endswith('found 7; loncapa.conf gives "5663" (londPort)')
    assert explained(tree)["network.lond_port"] == "7  # lonc.toml: line 3"


@pytest.mark.parametrize(
    ("allow", "certificate", "security"),
    [
        ("", True, "insecure"),
        ("1", False, "insecure"),
        ("1", True, "ssl-or-insecure"),
        ("0", True, "ssl"),
        ("0", False, "ssl"),
    ],
)
def test_security_is_that_of_the_original(
    tree: Path, allow: str, certificate: bool, security: str
) -> None:
    if allow:
        (tree / "loncapa.conf").write_text(f"{CONF}PerlSetVar loncAllowInsecure {allow}\n")
    if certificate:
        (tree / "certs").mkdir()
        (tree / "certs" / "lonhostcert.pem").touch()
    assert examined(tree).accepted().settings.network.security == security


def test_other_value_of_lonc_allow_insecure_is_a_problem(tree: Path) -> None:
    (tree / "loncapa.conf").write_text(CONF + "PerlSetVar loncAllowInsecure yes\n")
    [problem] = map(str, examined(tree).problems)
    assert problem.endswith('line 2 (loncAllowInsecure): found "yes"; expected 0 or 1')


# -- dns_hosts.tab ----------------------------------------------------------------------------


def names_of(tree: Path) -> dict[str, str]:
    return {host.id: host.dns_name for host in examined(tree).accepted().hosts}


def test_dns_hosts_tab_overrides_and_adds_hosts(tree: Path) -> None:
    (tree / "hosts.tab").write_text("msul1:msu:library:one.example\nb:msu:access:b.example\n")
    (tree / "dns_hosts.tab").write_text("^dns.ex\nc:m:access:c.example:https\nb:m:access:d.ex\n")
    both = {"msul1": "one.example", "b": "d.ex", "c": "c.example"}
    assert names_of(tree) == both

    name_conf(tree, tree, "dns_hosts_tab = false\n")
    assert names_of(tree) == {"msul1": "one.example", "b": "b.example"}


def test_bad_line_of_dns_hosts_tab_leaves_the_line_of_hosts_tab(tree: Path) -> None:
    (tree / "dns_hosts.tab").write_text("msul1:msu:library\n")
    [problem] = map(str, examined(tree).problems)
    assert problem.startswith(f"{tree}/dns_hosts.tab: line 1: 3 of 4 fields")
    assert names_of(tree) == {"msul1": "one.example"}


def test_dns_hosts_tab_that_cannot_be_read_is_a_problem(tree: Path) -> None:
    (tree / "dns_hosts.tab").mkdir()
    [problem] = map(str, examined(tree).problems)
    assert problem.startswith(f"{tree}/dns_hosts.tab: is a directory")
    assert names_of(tree) == {"msul1": "one.example"}


def test_socket_name_of_dns_hosts_tab_that_is_taken_names_its_line(tree: Path) -> None:
    (tree / "dns_hosts.tab").write_text("# a\ncommon_parent:msu:library:x.example\n")
    [problem] = map(str, examined(tree).problems)
    assert problem.startswith(
        f'{tree}/hosts.tab: dns_hosts.tab: line 2: "common_parent" would name'
    )
