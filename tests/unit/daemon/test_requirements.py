# SPDX-License-Identifier: GPL-2.0-or-later
"""What a start needs of the machine; the texts are in test_requirements.snapshots."""

from __future__ import annotations

import contextlib
import datetime as dt
import grp
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, signed_with
from users import WEB, as_user, only_root

from lonc_gevent.configuration.problems import Severity
from lonc_gevent.daemon.requirements import examine
from lonc_gevent.delayed.directory import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snapshots import Snapshot

BASE = '[network]\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder on a disk that any user can enter, with a hosts.tab."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o777)
        for file in ("hosts.tab", "lonc.toml"):
            (Path(name) / file).touch(0o644)
        (Path(name) / "hosts.tab").write_text("msul1:msu:library:localhost\n")
        yield Path(name)


def found(folder: Path, toml: str) -> list[str]:
    """Examine a configuration; return each problem with its severity."""
    path = folder / "lonc.toml"
    path.write_text(toml)
    return [
        f"{problem.severity.value}: {problem}".replace(f"{folder}/", "")
        for problem in examine(path).problems
    ]


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount a file system in memory at a folder."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_good_configuration_has_no_problems(folder: Path) -> None:
    assert found(folder, BASE) == []


def test_own_id_that_is_not_in_hosts_tab_is_a_warning(folder: Path, snapshot: Snapshot) -> None:
    snapshot("\n".join(found(folder, BASE.replace("msul1", "msul9"))))


def test_delayed_directory_in_memory_is_a_warning(folder: Path, snapshot: Snapshot) -> None:
    with mounted(folder / "m"):
        snapshot("\n".join(found(folder, BASE + '[delayed]\ndirectory = "m/new/delayed"\n')))


def test_read_only_file_system_is_not_called_a_lack_of_permission(
    folder: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    with mounted(folder / "m", "-o", "ro"):
        lines = found(folder, BASE + '[daemon]\npid_file = "m/pid"\n')
        monkeypatch.setenv("INVOCATION_ID", "0123")
        lines += found(folder, BASE + '[daemon]\npid_file = "m/pid"\n')
    snapshot("\n".join(lines))


def test_full_disk_under_the_pid_file_is_fatal(folder: Path, snapshot: Snapshot) -> None:
    with mounted(folder / "m", "-o", "size=4k"):
        (folder / "m" / "filler").write_bytes(bytes(4096))
        snapshot("\n".join(found(folder, BASE + '[daemon]\npid_file = "m/pid"\n')))


@only_root
def test_perm_log_that_cannot_be_written_is_a_warning(folder: Path, snapshot: Snapshot) -> None:
    (folder / "perm.log").touch(0o444)
    toml = BASE + '[delayed]\nperm_log = "perm.log"\n'
    found(folder, toml)
    with as_user(WEB):
        problems = examine(folder / "lonc.toml").problems
    snapshot("\n".join(f"{p.severity.value}: {p}".replace(f"{folder}/", "") for p in problems))


@pytest.mark.parametrize("name", ["directory", "file"])
def test_what_is_in_the_way_of_the_admin_socket_is_fatal(
    folder: Path, snapshot: Snapshot, name: str
) -> None:
    (folder / "directory").mkdir()
    (folder / "file").touch()

    snapshot("\n".join(found(folder, f'{BASE}[admin]\nsocket = "{name}"\n')))


@pytest.mark.parametrize("content", ["", "lonc-key:1:zz\n"])
def test_key_file_that_is_none_is_fatal(folder: Path, snapshot: Snapshot, content: str) -> None:
    (folder / "key").write_text(content)
    (folder / "key").chmod(0o600)

    snapshot("\n".join(found(folder, BASE + '[delayed]\nkey_file = "key"\n')))


def test_key_file_that_others_can_read_is_one_problem(folder: Path, snapshot: Snapshot) -> None:
    (folder / "key").write_text(f"lonc-key:1:{'0' * 64}\n")
    (folder / "key").chmod(0o644)

    snapshot("\n".join(found(folder, BASE + '[delayed]\nkey_file = "key"\n')))


@only_root
def test_file_of_another_owner_is_a_warning_that_names_the_owner_to_give_it(
    folder: Path, snapshot: Snapshot
) -> None:
    os.chown(folder / "hosts.tab", WEB, 0)

    snapshot("\n".join(found(folder, BASE)))


def test_key_that_overrides_another_value_of_loncapa_conf_is_a_warning(
    folder: Path, snapshot: Snapshot
) -> None:
    conf = f"PerlSetVar lonHostID msul2\nPerlSetVar lonTabDir {folder}\nPerlSetVar londPort 1\n"
    (folder / "loncapa.conf").write_text(conf)
    lines = found(folder, BASE + 'loncapa_conf = "loncapa.conf"\nlond_port = 2\n')

    snapshot("\n".join(lines))


@pytest.mark.parametrize("name", ["lonc.toml", "hosts.tab"])
def test_file_that_others_can_write_to_is_a_warning(
    folder: Path, snapshot: Snapshot, name: str
) -> None:
    found(folder, BASE)
    (folder / name).chmod(0o666)

    snapshot("\n".join(found(folder, BASE)))


# -- certificates -----------------------------------------------------------------------------


def ssl(files: dict[str, str], *lines: str) -> str:
    """Return a configuration with ssl and these files."""
    keys = "".join(f'{key} = "{value}"\n' for key, value in files.items())
    return BASE + 'security = "ssl"\n' + keys + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_weak_signature_is_judged_by_openssl(folder: Path, digest: str) -> None:
    files = signed_with(folder, digest)

    (problem,) = found(folder, ssl(files))

    where, _, text = problem.partition(": network.certificate")
    # OpenSSL 3.5 notices it in the handshake only.
    assert (where, text.split(";")[0]) in {
        ("fatal: lonc.toml", ", network.private_key: ca md too weak"),
        ("error: lonc.toml", ": a lond refuses it (CA signature digest algorithm too weak)"),
    }
    assert problem.endswith("; expected a signature with SHA-256")
    assert found(folder, ssl(files, 'tls_minimum = "1.0"')) == []


def test_key_of_1024_bits_is_fatal(folder: Path) -> None:
    files = signed_with(folder, "sha256", bits=1024)

    (problem,) = found(folder, ssl(files))

    assert problem.startswith("fatal: lonc.toml: network.certificate")
    assert problem.endswith("key too small; expected an RSA key of 2,048 bits or more")
    assert found(folder, ssl(files, 'tls_minimum = "1.0"')) == []


def test_certificate_that_the_ca_did_not_sign_is_fatal(folder: Path, snapshot: Snapshot) -> None:
    (folder / "other").mkdir()
    pair = Authority(folder / "other").sign("one")  # by a CA of the same name

    snapshot("\n".join(found(folder, ssl(Authority(folder).settings(pair)))))


def test_certificate_for_servers_only_is_an_error(folder: Path, snapshot: Snapshot) -> None:
    files = signed_with(folder, "sha256", extensions="extendedKeyUsage = serverAuth")

    snapshot("\n".join(found(folder, ssl(files))))


@pytest.mark.parametrize("minimum", ["1.0", "1.2", "1.3"])
def test_good_certificate_has_no_problems(folder: Path, minimum: str) -> None:
    authority = Authority(folder)

    files = authority.settings(authority.sign("lonc"))

    assert found(folder, ssl(files, f'tls_minimum = "{minimum}"')) == []


def test_dates_are_no_reason_not_to_start(folder: Path) -> None:
    authority = Authority(folder)
    old = authority.settings(authority.sign("old", days=-1))
    soon = authority.settings(authority.sign("soon", days=20))

    (expired,) = found(folder, ssl(old))
    (expires,) = found(folder, ssl(soon))

    assert expired.startswith("error: lonc.toml: network.certificate: expired on ")
    assert expires.startswith("warning: lonc.toml: network.certificate: expires on ")
    assert Severity.FATAL.value not in expired
    assert str((dt.datetime.now(dt.UTC) + dt.timedelta(days=20)).year) in expires


@only_root
@pytest.mark.parametrize("uid", [0, WEB])
def test_local_with_a_lond_of_another_user_is_a_warning(folder: Path, uid: int) -> None:
    """The port's owner is the user that created its socket. A lond of root can read any file."""
    with as_user(uid):
        lond = socket.create_server(("127.0.0.1", 0))
    with lond:
        port = lond.getsockname()[1]
        lines = found(folder, f'{BASE}lond_port = {port}\nsecurity = "local"\n')
    expected = (
        f"warning: lonc.toml: hosts.msul1.security: the lond on port {port} is of uid {WEB}, this"
        " user is uid 0; with security local both must be one user: its key file has mode 0600"
    )
    assert (expected in lines) is (uid == WEB)


@pytest.mark.parametrize("key", ["allow_uids", "allow_gids"])
def test_account_that_does_not_exist_is_a_problem(folder: Path, key: str) -> None:
    lines = found(folder, f'{BASE}[sockets]\n{key} = ["root", 7, "no-such"]\n')
    found_, expected = f'sockets.{key}: found "no-such"', "expected a name on this machine"
    assert f"fatal: lonc.toml: {found_}; {expected}" in lines


@only_root
def test_directories_that_the_daemon_made_for_a_group_are_not_reported(folder: Path) -> None:
    """The delayed directory that `sockets.group` may write to has the sticky bit."""
    group = next(entry for entry in grp.getgrall() if entry.gr_gid)
    (folder / "sockets").mkdir(0o755)
    prepare(folder / "sockets" / "delayed", group.gr_gid)
    lines = found(folder, f'{BASE}[sockets]\ngroup = "{group.gr_name}"\n')
    assert not [line for line in lines if "delayed.directory" in line or "sockets.dir" in line]
