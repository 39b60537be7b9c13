# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor concludes from its trials, word for word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lonc_gevent.doctor.diagnosis import (
    _ADVICE,
    _SETTING_OF,
    INLINE,
    INLINE_SEALED,
    PING,
    PROBES,
    SEALED,
    Finding,
    Trial,
    Way,
    conclude,
    masked,
    reply_in_words,
)
from lonc_gevent.protocol.handshake import NO_SSL

INSECURE = Way("insecure")
WORKS = "with the settings as they are, requests are answered"
FAILS = "no other way that was tried works either"
NO_CERTIFICATES = "lond answers init:ssl with a challenge: it has no certificates"
VERY_OLD = "lond tells no version: it is very old; negotiation auto and legacy fit, not modern"
NO_SETHOST = "lond knows no sethost: it speaks for the one host that it has"
ANOTHER_KEY = (
    "sealed requests are not understood, so the key is another than lond's; it may take"
    " us for another of our ids, and none that was tried fits"
)


def session(way: Way = INSECURE, **changes: Any) -> Trial:
    """Give a trial in which all went well with a lond of our days, but for the changes."""
    trial = Trial(way, lond_version=402, host_set=True, replies=dict.fromkeys(PROBES, "ok"))
    return replace(trial, **changes)


def replies(**changes: str) -> dict[str, str]:
    """Give the replies to ping, inline, sealed and inline_sealed: ok, but for the changes."""
    given = {"ping": "ok", "inline": "ok", "sealed": "ok", "inline_sealed": "ok"} | changes
    return dict(zip(PROBES, given.values(), strict=True))


def failed(error: str, detail: str = "why", way: Way = INSECURE) -> Trial:
    """Give a trial that ended before there was a session."""
    return Trial(way, error=error, detail=detail)


def note(words: str, setting: str = "") -> Finding:
    """Give a finding that is no problem."""
    return Finding(problem=False, setting=setting, words=words)


def problem(words: str, setting: str = "") -> Finding:
    """Give one that is."""
    return Finding(problem=True, setting=setting, words=words)


REVISION = note("lond is revision 1.402")


def test_all_is_well() -> None:
    """A lond of our days, with settings that fit: its revision is all there is to tell."""
    assert list(conclude(session(), [])) == [note(WORKS), REVISION]


def test_a_safer_way() -> None:
    """The first way beside insecure that works is told, but only to who is insecure."""
    others = [
        session(replace(INSECURE, client_id="x")),
        failed("refused", way=Way("local")),
        session(Way("ssl")),
        session(Way("local")),
    ]

    assert list(conclude(session(), others)) == [
        note(WORKS),
        note('"ssl" works, too, and is safer', "hosts.ID.security"),
        REVISION,
    ]
    assert list(conclude(session(Way("local")), others)) == [note(WORKS), REVISION]
    assert list(conclude(session(), others[:2])) == [note(WORKS), REVISION]


def test_falling_back_is_a_problem() -> None:
    """What fails each time is told with its reason, and not what is safer."""
    trial = session(Way("ssl-or-insecure"), fell_back="handshake failure")

    assert list(conclude(trial, [session(Way("local"))])) == [
        note(WORKS),
        problem("ssl is tried first and fails each time: handshake failure", "hosts.ID.security"),
        REVISION,
    ]


@pytest.mark.parametrize(
    ("configured", "others"),
    [
        (session(Way("ssl-or-insecure"), fell_back=NO_SSL), []),
        (session(), [failed("handshake_garbage", NO_SSL, Way("ssl"))]),
        (
            session(),
            [failed("handshake_garbage", "lond sent another line, expected ok:ssl", Way("ssl"))],
        ),
    ],
)
def test_a_lond_without_certificates(configured: Trial, others: list[Trial]) -> None:
    """It answers init:ssl as if it were init; the configured way, or one tried, shows it."""
    assert list(conclude(configured, others))[-1] == note(NO_CERTIFICATES)


@pytest.mark.parametrize("error", sorted({*_SETTING_OF, *_ADVICE}))
def test_each_error(error: str) -> None:
    """It is told with the setting it is about, then with what to do."""
    assert list(conclude(failed(error), [])) == [
        problem(f"{error}: why", _SETTING_OF.get(error, "")),
        *([problem(_ADVICE[error])] if error in _ADVICE else []),
        problem(FAILS),
    ]


def test_an_error_that_nobody_knows() -> None:
    """Then there is no advice."""
    assert list(conclude(failed("new"), [])) == [problem("new: why"), problem(FAILS)]


def test_another_way_works() -> None:
    """Each setting of the first way that works is told, and of that lond what there is to tell."""
    configured = failed("refused", way=Way("ssl", negotiation="modern", init_version="7"))
    better = session(
        Way(
            "local",
            client_id="msul7",
            tls_close_notify=True,
            tls_minimum="1.0",
            check_certificate_name=False,
        ),
        lond_version=400,
    )

    assert list(conclude(configured, [failed("refused"), better, session(Way("insecure"))])) == [
        problem("refused: why", "hosts.ID.security"),
        problem(_ADVICE["refused"]),
        problem('works with "local"', "hosts.ID.security"),
        problem('works with "auto"', "hosts.ID.negotiation"),
        problem('works with ""', "hosts.ID.init_version"),
        problem('works with "msul7"', "hosts.ID.client_id"),
        problem("works with true", "network.tls_close_notify"),
        problem('works with "1.0"', "network.tls_minimum"),
        problem("works with false", "network.check_certificate_name"),
        note("that gives up knowing which lond of the network it is"),
        note("lond is revision 1.400"),
    ]


def test_a_key_that_is_not_londs() -> None:
    """Ping is answered in clear, not sealed: told where no way of that security works."""
    configured = session(replies=replies(sealed="unknown_cmd", inline_sealed="unknown_cmd"))

    assert list(conclude(configured, [failed("refused")])) == [
        problem(ANOTHER_KEY, "hosts.ID.client_id"),
        problem(FAILS),
        REVISION,
    ]
    assert list(conclude(configured, [session(Way("local"))])) == [
        problem(ANOTHER_KEY, "hosts.ID.client_id"),
        problem('works with "local"', "hosts.ID.security"),
        REVISION,
    ]
    assert list(conclude(configured, [session(replace(INSECURE, client_id="msul7"))])) == [
        problem('works with "msul7"', "hosts.ID.client_id"),
        REVISION,
    ]


@pytest.mark.parametrize("sealed", ["ok", "refused"])
def test_a_session_that_answers_nothing(sealed: str) -> None:
    """What ping was answered with is told; the key is not to blame."""
    trial = session(replies=replies(ping="refused", inline="refused", sealed=sealed))

    assert list(conclude(trial, [])) == [
        problem("a session is made, but ping is answered with refused"),
        problem(FAILS),
        REVISION,
        problem("differs from protocol.md, 3e: 1.402 does not take sethost:ID:REQUEST in one line"),
    ]


@pytest.mark.parametrize(
    ("version", "inline", "finding"),
    [
        (321, "refused", None),
        (
            321,
            "ok",
            note("differs from protocol.md, 3e: 1.321 takes sethost:ID:REQUEST in one line"),
        ),
        (322, "ok", None),
        (
            322,
            "refused",
            problem(
                "differs from protocol.md, 3e: 1.322 does not take sethost:ID:REQUEST in one line"
            ),
        ),
    ],
)
def test_sethost_in_one_line(version: int, inline: str, finding: Finding | None) -> None:
    """Revision 1.322 is the first to take it; what differs is a problem where it does not."""
    trial = session(lond_version=version, replies=replies(inline=inline, inline_sealed=inline))

    assert list(conclude(trial, []))[2:] == ([finding] if finding else [])


def test_a_sealed_request_behind_sethost() -> None:
    """Where one is taken and the other, too, but not both at once."""
    trial = session(replies=replies(inline_sealed="refused"))

    assert list(conclude(trial, []))[2:] == [
        problem("differs from protocol.md, 3e: a sealed request behind sethost:ID: is not taken")
    ]


def test_a_very_old_lond() -> None:
    """It tells no version and knows no sethost; whether it takes it in one line says nothing."""
    trial = session(lond_version=None, host_set=False)

    assert list(conclude(trial, [])) == [
        note(WORKS),
        note(VERY_OLD, "hosts.ID.negotiation"),
        note(NO_SETHOST),
    ]


def test_what_is_not_tried_is_not_told() -> None:
    """With negotiation legacy nothing is known of version and sethost."""
    trial = session(
        replace(INSECURE, negotiation="legacy"),
        lond_version=None,
        host_set=False,
        replies=replies(inline="refused", inline_sealed="refused"),
    )

    assert list(conclude(trial, [])) == [
        note(WORKS),
        note("version and sethost were not tried (negotiation legacy)"),
    ]


def test_the_probes() -> None:
    """The requests as the report words them."""
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
def test_masked(line: bytes, ours: bool, shown: str) -> None:
    """Only what cannot be a secret is shown, with nothing that steers a terminal."""
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
def test_replies_in_words(reply: bytes, words: str) -> None:
    """What a reply holds is not shown, unless it is one of the known ones."""
    assert reply_in_words(reply, "msul2") == words
