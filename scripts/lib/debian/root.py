# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare Debian system in a folder, and the container that runs its systemd."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[3]
ROOTS = REPOSITORY / "var" / "roots"
SUITES = {"12": "bookworm", "13": "trixie", "testing": "testing"}
PACKAGES = "systemd-sysv,dbus"
"""What every installed Debian has, and debootstrap's variant minbase has not."""

USER = "tester"
WANTS_REBOOT = 133
"""Exit code of systemd-nspawn with --keep-unit: the system asks to be started again."""

BOOT_SECONDS = 60.0
STOP_SECONDS = 30.0
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CGROUP = f"/sys/fs/cgroup/lonc-{os.getpid()}"
MOUNT = "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup\n"
"""Shell, in a mount namespace: control groups of version 2, where the machine mounts version 1."""

NSPAWN = (
    "systemd-nspawn",
    "--quiet",
    "--register=no",  # neither this machine's systemd-machined nor its systemd is needed
    "--keep-unit",
    "--capability=all",  # some tests attach a socket filter, or make a network namespace
    "--resolv-conf=off",
    "--console=pipe",
)


class RootError(Exception):
    """A system could not be made or run; the text is for people."""


@dataclass(frozen=True)
class Options:
    """What a system gets from this machine.

    mirror       address of the Debian archive
    files        absolute paths of files that are copied into the system
    environment  names of variables that commands in the system inherit
    """

    mirror: str
    files: tuple[Path, ...]
    environment: tuple[str, ...]


def make(suite: str, options: Options) -> Path:
    """Make the bare system of a suite unless it is there; return its folder. Raises RootError."""
    folder = ROOTS / suite
    if folder.exists():
        return folder
    ROOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=ROOTS) as name:
        part = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(part)]
        command.append(options.mirror)
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode:
            raise RootError(f"{shlex.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr}")
        for file in (Path("/etc/resolv.conf"), *options.files):
            target = part / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(file, target)
        shutil.rmtree(part / "var/cache/apt/archives", ignore_errors=True)
        hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        (part / "etc/hosts").write_text(hosts)  # as Debian's installer does
        part.rename(folder)
    return folder


@contextmanager
def fresh(suite: str, options: Options) -> Iterator[Root]:
    """Give a copy of a suite's bare system, and remove it at the end."""
    pristine = make(suite, options)
    with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=ROOTS) as name:
        folder = Path(name) / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", pristine, folder], check=True)
        root = Root(folder, options)
        try:
            yield root
        finally:
            root.stop()


class Root:
    """A system in a folder. `run` works with and without `boot`.

    The network is this machine's.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self._environment = {name: os.environ[name] for name in options.environment}
        self._nspawn: subprocess.Popen[bytes] | None = None

    def run(
        self,
        command: str,
        *,
        user: str = "root",
        folder: str = "",
        check: bool = True,
        interactive: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run lines of bash in the system as a login of this user would; stop at the first error.

        folder  where to run them; "": the home of the user

        Raises RootError with the output if the exit code is not 0 and `check` is set.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        environment = {"HOME": home, "USER": user, "PATH": SEARCH, "LANG": "C.UTF-8"}
        environment |= {"TERM": os.environ.get("TERM", "dumb")} | self._environment
        variables = [f"{name}={value}" for name, value in environment.items()]
        inside = ["env", "-i", *variables, "setpriv", f"--reuid={user}", f"--regid={user}"]
        inside += ["--init-groups", "--inh-caps=-all", "bash", "-euo", "pipefail", "-c"]
        inside += [f"cd {shlex.quote(folder or home)}\n{command}"]
        done = subprocess.run(
            [*self._enter(), *inside],
            check=False,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=None if interactive else subprocess.PIPE,
            stderr=None if interactive else subprocess.STDOUT,
            text=True,
        )
        if check and done.returncode:
            raise RootError(f"exit code {done.returncode}:\n{command}\n{done.stdout or ''}")
        return done

    def _enter(self) -> list[str]:
        """Return the beginning of a command that runs in the system."""
        if self._nspawn is not None:
            return ["nsenter", "--all", f"--target={self._leader()}", "--"]
        join = f'{MOUNT} mkdir -p {CGROUP} && echo $$ >{CGROUP}/cgroup.procs && exec "$@"'
        unshare = ["unshare", "--mount", "--", "sh", "-c", join, "sh"]
        return [*unshare, *NSPAWN, "--directory", str(self.folder)]

    def _leader(self) -> int:
        """Return the pid of the system's init, once it has one. Raises RootError."""
        deadline = time.monotonic() + BOOT_SECONDS
        while self._nspawn is not None and self._nspawn.poll() is None:
            pid = self._nspawn.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in map(int, children):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return child
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        raise RootError("the container does not run")

    def boot(self) -> None:
        """Start the system's systemd; return when it is up. Raises RootError."""
        command = [*self._enter(), "--boot"]
        with (self.folder.parent / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._wait_until_up()

    def reboot(self) -> None:
        """Reboot the system as an administrator does; return when it is up again."""
        assert self._nspawn is not None  # noqa: S101 - for mypy
        self.run("systemctl reboot", check=False)
        code = self._nspawn.wait(BOOT_SECONDS)
        if code != WANTS_REBOOT:
            raise RootError(f"the container did not reboot: exit code {code}")
        self._nspawn = None
        self.boot()

    def _wait_until_up(self) -> None:
        state = ""
        deadline = time.monotonic() + BOOT_SECONDS
        while state not in {"running", "degraded"}:
            if time.monotonic() > deadline:
                raise RootError(f"systemd of the container does not come up: {state}")
            time.sleep(0.2)
            try:
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
            except OSError:
                continue  # the container's first process has just begun

    def stop(self) -> None:
        """Switch the system off, if it runs."""
        if self._nspawn is not None:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
            self._nspawn = None
        remove = f"{MOUNT} find {CGROUP} -depth -type d -exec rmdir {{}} +"
        subprocess.run(["unshare", "--mount", "--", "sh", "-c", remove], check=False)
