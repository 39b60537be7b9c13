# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing leaks: a canary goes through every path, and is looked for in all that comes out.

Payloads, challenges, build keys and session keys of these tests are known words. They are sent
where all goes well and where something goes wrong, at log level debug; then stdout, stderr, the
process title, its environment, all files and the output of other commands are searched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Network, network, wait_until
from scripted import ScriptedLond

import lonc_gevent
from lonc_gevent.protocol.cipher import Cipher, session_key

if TYPE_CHECKING:
    from collections.abc import Iterator

WORD = b"CANARY5ecret"
CHALLENGE = b"8675309867530986753098675309"
BUILD_KEY = b"C0FFEEC0FFEEC0FFEE5EC"
VERSION = b"version:$Revision: 1.402 $\n"
OPENING = (CHALLENGE + b"\n", b"ok\n", VERSION, b"ok\n")

KEY = session_key("scripted", "msul1", BUILD_KEY)

SECRETS = {
    "payload": WORD,
    "payload in hex": WORD.hex().encode(),
    "challenge": CHALLENGE,
    "build key": BUILD_KEY,
    "session key": KEY.hex().encode(),
    "session key, raw": repr(KEY)[2:-1].encode(),
}

SCRIPTS = {
    "challenge": (CHALLENGE + b"\n", WORD + b"\n"),
    "no-ok": (CHALLENGE + b"\n", b"no:" + WORD + b"\n"),
    "version": (CHALLENGE + b"\n", b"ok\n", b"version:" + WORD + b"\n", WORD + b"\n"),
    "sethost": (CHALLENGE + b"\n", b"ok\n", VERSION, WORD + b"\n"),
    "error": (CHALLENGE + b"\n", b"ok\n", VERSION, b"error:" + WORD + b"\n"),
    "build-key": (*OPENING, b"error:" + WORD + BUILD_KEY + b"\n"),
    "surplus": (*OPENING, BUILD_KEY + b"\n" + WORD + b"\n"),
    "scripted": (*OPENING, BUILD_KEY + b"\n", b"enc:99:" + WORD + b"\n"),
    "halved": (*OPENING, BUILD_KEY + b"\n", WORD),
    "long": (b"7" + WORD * 1000,),
    "ssl": (b"ok:ssl\n" + WORD + b"\n",),
    "local": (WORD + b"\n",),
}
"""What scripted londs say; the name of each is its host id."""

FILES = {
    "1.1.1.echo%s.msul2": b"echo:%s\n",
    "1.1.2.encrypteget%s.msul2": b"encrypt:eget:%s\n",
    "1.1.3.error%s.msul2": b"echo:error:%s\n",
    "1.1.4.%s.msul2": b"fault:drop-before:%s\n",
    "1.1.5.%s.msul2": b"several:%s\nlines\n",
    "1.1.6.%s.nobody": b"echo:%s\n",
    "1.1.7.x.%s nobody": b"echo:%s\n",
    "x.%s.1.x.msul2": b"several:%s\nlines\n",
    "%s": b"echo:%s\n",
}
"""Delayed requests: names such as lonnet makes, or of no such shape, and what is in the files."""

PRIVATE = "private"
"""The folder of what holds requests by its nature, and is not looked through."""

REQUESTS = [
    b"echo:%s",
    b"encrypt:eget:%s",
    b"encrypt:echo:%s",
    b"sethost:msul2:encrypt:secret:%s",
    b"sethost:elsewhere:echo:%s",
    b"fault:drop-before:%s",
    b"fault:drop-middle:%s",
    b"fault:extra-line:%s",
    b"fault:later-line:1:%s",
    b"fault:drop-after:%s",
    b"fault:empty:%s",
    b"fault:bad-seal:%s",
    b"encrypt:fault:bad-seal-hex:%s",
    b"encrypt:fault:bad-seal-lines:%s",
    b"fault:unended:200000:%s",
    b"fault:mute:%s",
    b"unknown:%s",
    b"echo:\x00\xff%s",
]
"""Requests to a real fake lond; `%s` is the canary."""


@contextlib.contextmanager
def scripted_londs() -> Iterator[dict[str, ScriptedLond]]:
    """Run all scripted londs."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(ScriptedLond(script)) for name, script in SCRIPTS.items()}


def fly(net: Network, env: dict[str, str] | None = None) -> list[str]:
    """Send the canary through every path; return where it was seen."""
    net.pool |= {
        "reply_timeout": 0.5,
        "handshake_timeout": 0.5,
        "queue_timeout": 0.5,
        "max_reply_bytes": 100_000,
        "max_request_bytes": 100_000,
    }
    net.tables |= {"log": {"level": "debug", "sample": 1}}
    net.tables["daemon"] = {
        "pid_file": str(net.directory / "pid"),
        "report_file": str(net.directory / "report"),
    }
    net.tables["delayed"] = {
        "directory": f"{PRIVATE}/d",
        "perm_log": f"{PRIVATE}/perm.log",
        "settle": 0.1,
        "scan_interval": 0.2,
        "max_attempts": 1,
        "orphan_after": 0.0,
    }
    net.add("msul2", "--client-id", "msul1")
    net.add("down", start=False)
    outputs: dict[str, bytes] = {}
    with scripted_londs() as londs:
        for name, lond in londs.items():
            net.hosts[name] = {"address": "127.0.0.1", "port": lond.port}
        net.hosts["local"]["security"] = "local"
        ssl = name_certificates(net)
        net.hosts["ssl"]["security"] = "ssl"
        net.tables["network"] = ssl
        daemon = net.start(env=env)
        for name in (*SCRIPTS, "down"):
            net.ask(name, b"encrypt:store:" + WORD)
            net.ask(name, b"store:" + WORD)
        outputs |= {name: net.command("doctor", name).stdout for name in ("challenge", "scripted")}
        for request in REQUESTS:
            net.ask("msul2", request % WORD)
        go_wrong(net)
        delay_and_wait(net)
        net.status("msul2")
        proc = Path(f"/proc/{daemon.pid}")
        outputs |= {name: (proc / name).read_bytes() for name in ("cmdline", "environ", "comm")}
        outputs["check"] = net.command("check").stderr
        outputs |= admin_pages(net)
        end_under_way(net)
    outputs["stdout"] = "".join(daemon.lines).encode()
    outputs["stderr"] = daemon.stderr.encode()
    records = {lond.record for lond in net.londs.values()}
    for path in net.directory.rglob("*"):
        if path.is_file() and path not in records and net.directory / PRIVATE not in path.parents:
            outputs[path.name] = path.read_bytes()
    return [
        f"{secret} in {output}"
        for secret, word in SECRETS.items()
        for output, content in outputs.items()
        if word.lower() in content.lower()
    ]


def name_certificates(net: Network) -> dict[str, str]:
    """Make certificates, as ssl needs them."""
    from certificates import Authority  # noqa: PLC0415 - takes time, and only here

    authority = Authority(net.directory)
    return authority.settings(authority.sign("lonc", "msul1"))


def go_wrong(net: Network) -> None:
    """Let clients do what they should not, with the canary."""
    with net.client("msul2") as client:
        client.send(b"echo:" + WORD * 10_000)
        assert client.line() == b"con_lost\n"
    with net.client("msul2") as client:
        client.send(b"echo:" + WORD)
        client.sock.shutdown(socket.SHUT_WR)
        client.at_end()
    with net.client("msul2") as client:
        client.send(b"delay:50:" + WORD + b"\n")
    net.wait_for("request_too_long")


def delay_and_wait(net: Network) -> None:
    """Leave the canary in files and in their names, and wait until all are dealt with."""
    directory = net.directory / PRIVATE / "d"
    word = WORD.decode()
    for name, line in FILES.items():
        new = directory / ".new.canary"
        new.write_bytes(line % WORD)
        new.chmod(0o600)
        new.rename(directory / name.replace("%s", word))
    wait_until(
        lambda: not [path for path in directory.iterdir() if word in path.name],
        "all are answered or put away",
    )
    net.wait_for("delayed_quarantined", times=6)


def admin_pages(net: Network) -> dict[str, bytes]:
    """Get what the admin socket shows, where there is one."""
    pages: dict[str, bytes] = {}
    path = net.sockets / "lonc-admin"
    for page in ("/metrics", "/status", "/", "/healthz") if path.exists() else ():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            sock.sendall(b"GET %s HTTP/1.0\r\n\r\n" % page.encode())
            content = b""
            while data := sock.recv(65536):
                content += data
            pages[page] = content
    return pages


def end_under_way(net: Network) -> None:
    """Stop the daemon with a request under way, which it has to give up."""
    assert net.daemon
    with net.client("msul2") as client:
        client.send(b"fault:mute:" + WORD + b"\n")
        wait_until(lambda: b"fault:mute:" + WORD in net.londs["msul2"].received, "sent")
        net.daemon.send_signal(signal.SIGTERM)
        client.line()
    net.daemon.end()


def test_no_canary_gets_out(net: Network) -> None:
    """No payload, challenge, build key or session key is in anything that comes out."""
    assert fly(net) == []
    # That it was there at all: without this, nothing would be proved.
    assert any(WORD in request for request in net.londs["msul2"].received)
    for event in (
        "reply_lost",
        "connection_failed",
        "connection_lost",
        "request_too_long",
        "transaction",
        "status",
        "host_down",
        "delayed_attempt_lost",
        "delayed_quarantined",
        "delayed_refused",
        "delayed_replayed",
    ):
        assert net.find(event), event
    kinds = {event["error"] for event in net.events if "error" in event}
    assert kinds >= {
        "bad_sealed_reply",
        "challenge_failed",
        "connection_lost",
        "handshake_garbage",
        "reply_timeout",
        "reply_too_long",
        "tls_failed",
        "unreachable",
        "unsolicited_bytes",
    }


@pytest.mark.parametrize(
    ("room", "after", "leak"),
    [
        (
            "backend/lond_connection.py",
            "reply = lond.exchange(transaction.request)\n",
            'pool.log.debug("leak", payload=bytes(transaction.request))\n',
        ),
        (
            "backend/lond_connection.py",
            "pool.connected(self)\n",
            'pool.log.debug("leak", key=lond.session.key.hex())\n',
        ),
        (
            "delayed/host_replay.py",
            "self.pool.stats.delayed_replayed += 1\n",
            'self.context.log.debug("leak", file=name)\n',
        ),
    ],
)
def test_the_canary_is_found(
    short_path: Path, tmp_path: Path, room: str, after: str, leak: str
) -> None:
    """One log.debug(payload), put in on purpose, and the canary is seen."""
    source = Path(lonc_gevent.__file__).parent
    copy = tmp_path / "lonc_gevent"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / room).read_text()
    before, middle, rest = text.partition(after)
    assert middle, f"{room} no longer has the line after which this test leaks"
    indent = before.rpartition("\n")[2]
    (copy / room).write_text(before + middle + indent + leak + rest)

    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with network(short_path) as net:
        found = fly(net, env | {"PYTHONSAFEPATH": "1"})

    assert any("stdout" in place for place in found), found


def test_a_sealed_canary_is_one() -> None:
    """The key that is looked for is the one that the scripted lond and we agree on."""
    assert Cipher(KEY).open(Cipher(KEY).seal(WORD)) == WORD
