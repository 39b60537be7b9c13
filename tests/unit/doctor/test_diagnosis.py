# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's findings, whose texts are in test_diagnosis.snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lonc_gevent.doctor.diagnosis import (
    _ADVICE,
    _SETTING_OF,
    INLINE,
    INLINE_SEALED,
    PING,
    PROBES,
    SEALED,
    Trial,
    Way,
    conclude,
    describe_reply,
    masked,
)
from lonc_gevent.protocol.handshake import NO_SSL

if TYPE_CHECKING:
    from snapshots import Snapshot

INSECURE = Way("insecure")


def session(way: Way = INSECURE, **changes: Any) -> Trial:
    """Return a trial that worked with a lond of today, with these changes."""
    trial = Trial(way, lond_version=402, host_set=True, replies=dict.fromkeys(PROBES, "ok"))
    return replace(trial, **changes)


def replies(**changes: str) -> dict[str, str]:
    """Return the replies to ping, inline, sealed and inline_sealed: ok, with these changes."""
    given = {"ping": "ok", "inline": "ok", "sealed": "ok", "inline_sealed": "ok"} | changes
    return dict(zip(PROBES, given.values(), strict=True))


def failed(error: str, detail: str = "why", way: Way = INSECURE) -> Trial:
    """Return a trial whose handshake failed."""
    return Trial(way, error=error, detail=detail)


CASES: dict[str, tuple[Trial, list[Trial]]] = {
    "works": (session(), []),
    "insecure works and others too": (
        session(),
        [
            session(replace(INSECURE, client_id="x")),
            failed("refused", way=Way("local")),
            session(Way("ssl")),
            session(Way("local")),
        ],
    ),
    "local works and others too": (session(Way("local")), [session(Way("ssl"))]),
    "insecure works and nothing else": (session(), [failed("refused", way=Way("local"))]),
    "falls back": (
        session(Way("ssl-or-insecure"), fell_back="handshake failure"),
        [session(Way("local"))],
    ),
    "falls back, no certificates": (session(Way("ssl-or-insecure"), fell_back=NO_SSL), []),
    "insecure works, ssl meets no certificates": (
        session(),
        [failed("handshake_garbage", NO_SSL, Way("ssl"))],
    ),
    "insecure works, ssl meets a challenge": (
        session(),
        [failed("handshake_garbage", "lond sent another line, expected ok:ssl", Way("ssl"))],
    ),
    **{f"error {error}": (failed(error), []) for error in sorted({*_SETTING_OF, *_ADVICE})},
    "error without advice": (failed("new"), []),
    "other settings work": (
        failed("refused", way=Way("ssl", negotiation="modern", init_version="7")),
        [
            failed("refused"),
            session(
                Way(
                    "local",
                    client_id="msul7",
                    tls_close_notify=True,
                    tls_minimum="1.0",
                    check_certificate_name=False,
                ),
                lond_version=400,
            ),
            session(Way("insecure")),
        ],
    ),
    "another key, nothing works": (
        session(replies=replies(sealed="unknown_cmd", inline_sealed="unknown_cmd")),
        [failed("refused")],
    ),
    "another key, local works": (
        session(replies=replies(sealed="unknown_cmd", inline_sealed="unknown_cmd")),
        [session(Way("local"))],
    ),
    "another key, client_id works": (
        session(replies=replies(sealed="unknown_cmd", inline_sealed="unknown_cmd")),
        [session(replace(INSECURE, client_id="msul7"))],
    ),
    **{
        f"ping is refused, sealed {sealed}": (
            session(replies=replies(ping="refused", inline="refused", sealed=sealed)),
            [],
        )
        for sealed in ("ok", "refused")
    },
    **{
        f"1.{version}, inline {inline}": (
            session(lond_version=version, replies=replies(inline=inline, inline_sealed=inline)),
            [],
        )
        for version in (321, 322)
        for inline in ("ok", "refused")
    },
    "sealed after sethost is refused": (session(replies=replies(inline_sealed="refused")), []),
    "very old": (session(lond_version=None, host_set=False), []),
    "legacy": (
        session(
            replace(INSECURE, negotiation="legacy"),
            lond_version=None,
            host_set=False,
            replies=replies(inline="refused", inline_sealed="refused"),
        ),
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_findings(case: str, snapshot: Snapshot) -> None:
    snapshot("\n".join(map(str, conclude(*CASES[case]))))


def test_probes_are_the_requests_as_shown() -> None:
    assert PROBES == (PING, INLINE, SEALED, INLINE_SEALED)
    assert PROBES == ("ping", "sethost:ID:ping", "encrypt:ping", "sethost:ID:encrypt:ping")


@pytest.mark.parametrize(
    ("line", "ours", "shown"),
    [
        (b"init\n", True, "init"),
        (b"init:local:/a/b\n", True, "init:local:<a key file>"),
        (b"init:local:/a/b:1\n", True, "init:local:<a key file>:<version>"),
        (b"12345\n", True, "<5 bytes, all digits>"),
        (b"ok\n", False, "ok"),
        (b"5A0\n", False, "<3 bytes>"),
        (b"version:\xff\n", False, "<9 bytes>"),
        (b"version:\x1b[0m\n", False, "version:\\x1b[0m"),
        (b"error:secret\n", False, "<12 bytes>"),
        (b"init\n", False, "<4 bytes>"),
    ],
)
def test_masked_lines_show_no_secret(line: bytes, ours: bool, shown: str) -> None:
    """Nor control characters."""
    assert masked(line, ours=ours) == shown


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"msul2\n", "ok"),
        (b"refused\n", "refused"),
        (b"error:secret\n", "error:..."),
        (b"secret\n", "another line of 6 bytes"),
        (b"version:\x1b[2J\xff\n", "version:\\x1b[2J\\xff"),
    ],
)
def test_only_known_replies_are_shown(reply: bytes, words: str) -> None:
    assert describe_reply(reply, "msul2") == words
