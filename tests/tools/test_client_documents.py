# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's documents: their examples run, their types are right, the reference is current."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Process, free_port, wait_until

if TYPE_CHECKING:
    from harness import Network

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

import client_reference

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "web-client.md"
HOWTO = ROOT / "docs" / "howto" / "web-frameworks.md"
TYPED = ROOT / "tests" / "support" / "typed_client.py"


def blocks(document: Path) -> list[str]:
    """Return the blocks of Python of a document."""
    return re.findall(
        r"^```python\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def run(*arguments: str, directory: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program of this Python, with warnings as errors; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def up(net: Network) -> Network:
    """Give a network with the hosts msul1 and msul2 running."""
    net.add("msul1")
    net.add("msul2")
    net.start()
    return net


def test_the_reference_is_made_from_the_docstrings() -> None:
    """`scripts/client-reference --write` writes it anew."""
    assert client_reference.PAGE.read_text("utf-8") == client_reference.reference()


def test_the_tutorial_prints_what_it_announces(up: Network) -> None:
    output = run(
        "-c", "".join(blocks(TUTORIAL)) + "\nclient.close()", env={"LONC_CONFIG": str(up.config)}
    )

    path = up.sockets
    assert output.splitlines() == [
        "b'msul2'",
        "b'get:msu:ada:environment:firstname&lastname'",
        "['Ada', 'Example']",
        f"'msul22': the daemon does not serve this host; did you mean msul2? (socket {path}/?)",
        f"msul2: no whole reply within the timeout (socket {path}/msul2) True",
        f"msul2: con_lost (socket {path}/msul2) True",
        "msul1 0.12",
        "msul2 0.12",
        "b'ok'",
        "[b'0', b'1', b'2', b'3', b'4']",
    ]


@pytest.fixture
def applications(tmp_path: Path) -> Path:
    """Give a folder with the three applications of the how-to."""
    for name, code in zip(
        ("flask_app", "django_view", "starlette_app"), blocks(HOWTO), strict=True
    ):
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_the_flask_example_runs_under_gunicorn(
    up: Network, applications: Path, worker: str
) -> None:
    port = free_port()
    options = [
        "--bind",
        f"127.0.0.1:{port}",
        "--chdir",
        str(applications),
        "--log-level",
        "warning",
    ]
    options += ["--worker-class", worker, "--no-control-socket", "--graceful-timeout", "5"]
    server = Process("gunicorn", *options, "flask_app:app", env={"LONC_CONFIG": str(up.config)})
    try:
        wait_until(
            lambda: fetch(port, "/users/msu/ada") == "Ada Example", "gunicorn serves the page"
        )
        up.londs["msul2"].kill()
        wait_until(lambda: fetch(port, "/users/msu/ada") == "503", "the page is not available")
        assert server.end(signal.SIGTERM) == 0
    finally:
        server.close()


def test_the_starlette_example_runs_under_uvicorn(up: Network, applications: Path) -> None:
    port = free_port()
    options = ["--port", str(port), "--app-dir", str(applications), "--log-level", "warning"]
    server = Process("uvicorn", *options, "starlette_app:app", env={"LONC_CONFIG": str(up.config)})
    try:
        wait_until(lambda: fetch(port, "/") == "404", "uvicorn serves", 40)
        assert json.loads(fetch(port, "/notes/ada", b"a:b&c")) == {"saved": "ok"}
        assert up.londs["msul2"].received[-1] == b"put:msu:ada:notes:text=a%3ab%26c"
        up.londs["msul2"].kill()
        wait_until(lambda: "con_delayed" in fetch(port, "/notes/ada", b"x"), "saved for later")
    finally:
        server.end(signal.SIGTERM)
        server.close()


def fetch(port: int, path: str, data: bytes | None = None) -> str:
    """Return the body of a page, or the status code of an error, or "" if nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, 20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)
    except OSError:
        return ""


def test_the_django_example_runs(up: Network, applications: Path) -> None:
    code = (
        "from django.conf import settings; settings.configure(); import django; django.setup()\n"
        "from django.test import RequestFactory; import django_view\n"
        "print(django_view.loads(RequestFactory().get('/')).content.decode())\n"
        "django_view.lonc.close()\n"
    )

    output = run("-c", code, directory=applications, env={"LONC_CONFIG": str(up.config)})

    assert json.loads(output) == {"msul1": 0.12, "msul2": 0.12}


@pytest.mark.slow
def test_the_examples_have_right_types(applications: Path) -> None:
    """For mypy and pyright, both strict; the tutorial and the table of types too."""
    (applications / "tutorial.py").write_text("".join(blocks(TUTORIAL)), "utf-8")
    (applications / "typed_client.py").write_text(TYPED.read_text("utf-8"), "utf-8")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (applications / "pyrightconfig.json").write_text(json.dumps(settings))
    (applications / "django_view.py").unlink()  # Django has no types
    names = ["flask_app.py", "starlette_app.py", "tutorial.py", "typed_client.py"]

    run(
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        "mypy",
        *names,
        directory=applications,
        env={"MYPYPATH": str(ROOT)},
    )
    run("-m", "basedpyright", "--pythonpath", sys.executable, *names, directory=applications)
