# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's load generator against servers that are right, wrong, lost or gone."""

from __future__ import annotations

import json
import shutil
import socketserver
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path(__file__).parents[2] / "scripts" / "lib" / "bench"
REQUESTS = 40

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile load.c; warnings are errors, in lond.c as well."""
    folder = tmp_path_factory.mktemp("bench")
    for name in ("load", "lond"):
        command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        command += ["-o", str(folder / name), str(SOURCES / f"{name}.c"), "-lm"]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
    return folder / "load"


@contextmanager
def server(path: Path, answer: Callable[[bytes], bytes]) -> Iterator[Path]:
    """Answer each line on a Unix socket; b"" closes the connection."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                reply = answer(line)
                if not reply:
                    return
                self.wfile.write(reply)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(str(path), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield path
        finally:
            serving.shutdown()
            thread.join()


def run(load: Path, path: Path, *options: str) -> dict[str, Any]:
    """Run the load to its end; return what it says."""
    command = [str(load), "--requests", str(REQUESTS), "--seconds", "10", "--clients", "4"]
    done = subprocess.run([*command, *options, str(path)], capture_output=True, check=True)
    warm, result = done.stdout.splitlines()
    assert warm == b"warm"
    counted: dict[str, Any] = json.loads(result)
    return counted


def counts(result: dict[str, Any]) -> tuple[int, int, int, int]:
    """Pick what was counted: answered, errors, con_lost, mismatches."""
    return (result["answered"], result["errors"], result["con_lost"], result["mismatches"])


@pytest.mark.parametrize("mode", ["conn", "keep"])
@pytest.mark.parametrize("size", ["64", "300000"])
def test_right_replies_are_right(load: Path, tmp_path: Path, mode: str, size: str) -> None:
    """Every reply that is the request itself counts as answered, whatever its size."""
    with server(tmp_path / "s", lambda line: line) as path:
        result = run(load, path, "--mode", mode, "--bytes", size)

    assert counts(result) == (REQUESTS, 0, 0, 0)
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]


def test_sealed_requests_come_back_without_their_prefix(load: Path, tmp_path: Path) -> None:
    """What is asked with `encrypt:` must be answered with all that follows it."""
    with server(tmp_path / "s", lambda line: line.removeprefix(b"encrypt:")) as path:
        right = run(load, path, "--prefix", "encrypt:eget:")
    with server(tmp_path / "t", lambda line: line) as path:
        wrong = run(load, path, "--prefix", "encrypt:eget:")

    assert counts(right) == (REQUESTS, 0, 0, 0)
    assert counts(wrong) == (REQUESTS, 0, 0, REQUESTS)


def test_reply_to_another_request_is_detected(load: Path, tmp_path: Path) -> None:
    """One byte that differs makes a reply wrong, be it in the number or in the filling."""
    with server(tmp_path / "s", lambda line: line[:-2] + b"!\n") as path:
        assert counts(run(load, path)) == (REQUESTS, 0, 0, REQUESTS)
    with server(tmp_path / "t", lambda line: line.replace(b":0", b":9", 1)) as path:
        assert counts(run(load, path)) == (REQUESTS, 0, 0, REQUESTS)


def test_con_lost_is_counted_for_itself(load: Path, tmp_path: Path) -> None:
    """`con_lost` is an answer, but no right one and no wrong one."""
    with server(tmp_path / "s", lambda _line: b"con_lost\n") as path:
        assert counts(run(load, path, "--mode", "keep")) == (REQUESTS, 0, REQUESTS, 0)


def test_a_closed_connection_is_an_error(load: Path, tmp_path: Path) -> None:
    """A connection that ends without a reply is an error each time, and no answer."""
    with server(tmp_path / "s", lambda _line: b"") as path:
        assert counts(run(load, path)) == (0, REQUESTS, 0, 0)


def test_what_warms_up_does_not_count(load: Path, tmp_path: Path) -> None:
    """Requests before the warm-up's end are answered, but not among those counted."""
    seen: list[bytes] = []

    def note(line: bytes) -> bytes:
        seen.append(line)
        return line

    with server(tmp_path / "s", note) as path:
        result = run(load, path, "--warm", "10")

    assert counts(result) == (REQUESTS, 0, 0, 0)
    assert len(seen) == REQUESTS + 10
