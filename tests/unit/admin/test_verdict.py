# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict: which situations are bad, which are trouble, and in what order they are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from statuses import document, documents, host

from lonc_gevent.admin.status import LEVELS
from lonc_gevent.admin.verdict import host_level

if TYPE_CHECKING:
    from lonc_gevent.admin.status import HostStatus, Status

DAY = 86400.0


def codes(status: Status) -> list[str]:
    """Return the codes of the reasons, in their order."""
    return [reason.code for reason in status.verdict.reasons]


def test_daemon_without_trouble_is_well() -> None:
    verdict = document(host("a", con_lost=99, delayed_waiting=3), host("b", state="idle")).verdict

    assert (verdict.level, verdict.headline) == ("well", "All 2 hosts are well")
    assert verdict.reasons == []


@pytest.mark.parametrize(
    ("hosts", "level"),
    [
        (["down"], "bad"),
        (["down", "up"], "trouble"),
        (["down", "down", "up"], "bad"),
        (["down", "up", "up"], "trouble"),
    ],
)
def test_more_than_half_of_the_hosts_in_use_down_is_bad(hosts: list[str], level: str) -> None:
    used = [host(f"h{n}", state=state, requests_lately=1) for n, state in enumerate(hosts)]
    unused = [host(f"u{n}", state="up") for n in range(9)]

    assert document(*used, *unused).verdict.level == level


def test_hosts_that_are_down_and_not_in_use_are_trouble() -> None:
    status = document(*(host(f"h{n}", state="down") for n in range(9)), host("up"))

    assert status.verdict.level == "trouble"
    assert status.verdict.headline == "9 of 10 hosts are down: h0, h1, h2, …"


@pytest.mark.parametrize(
    ("fields", "level", "code"),
    [
        ({"phase": "stopping"}, "bad", "stopping"),
        ({"phase": "starting"}, "trouble", "starting"),
        ({"delayed_error": "read-only"}, "trouble", "delayed_unusable"),
        ({"delayed_unknown": 1}, "trouble", "delayed_unknown"),
        ({"certificate_expires_in_s": 2 * DAY}, "trouble", "certificate"),
        ({"certificate_expires_in_s": -1.0}, "trouble", "certificate"),
        ({"reload_problems": ["a.toml: bad"]}, "trouble", "reload_refused"),
        ({"missing": {"socket msul2": "in use"}}, "trouble", "part_missing"),
        ({"log_lines_dropped_lately": 1}, "trouble", "log_lines_dropped"),
    ],
)
def test_each_state_of_the_process(fields: dict[str, Any], level: str, code: str) -> None:
    status = document(host("a"), **fields)

    assert (status.verdict.level, codes(status)) == (level, [code])


@pytest.mark.parametrize(
    ("fields", "level", "code"),
    [
        ({"state": "paused"}, "trouble", "hosts_paused"),
        ({"lost_lately": 1}, "trouble", "requests_lost"),
        ({"queue": 480, "oldest_wait_s": 59.0}, "trouble", "requests_wait"),
        ({"delayed_quarantined": 4}, "trouble", "delayed_quarantined"),
        ({"delayed_waiting": 2, "delayed_oldest_s": 3601.0}, "trouble", "delayed_stuck"),
    ],
)
def test_each_state_of_a_host(fields: dict[str, Any], level: str, code: str) -> None:
    status = document(host("a", **fields), host("b"))

    assert (status.verdict.level, codes(status)) == (level, [code])
    assert status.hosts[0].level == level


@pytest.mark.parametrize(
    "status",
    [
        document(host("a", queue=1, oldest_wait_s=1.0)),
        document(host("a"), certificate_expires_in_s=31 * DAY),
        document(host("a", delayed_waiting=2, delayed_oldest_s=60.0)),
        document(),
    ],
)
def test_what_is_within_its_limits_is_well(status: Status) -> None:
    assert status.verdict.level == "well"


def test_all_reasons_are_named_the_gravest_first() -> None:
    """The situation that was shown in green: losses, a full queue, quarantine, a certificate."""
    status = document(
        host("slow", queue=480, oldest_wait_s=59.0, lost_lately=1210, delayed_quarantined=4),
        host("other"),
        phase="stopping",
        certificate_expires_in_s=2 * DAY,
    )

    assert [reason.text for reason in status.verdict.reasons] == [
        "The daemon is stopping",
        "1,210 requests lost in the last 5 minutes: slow",
        "480 requests waiting, for up to 59 s: slow",
        "4 delayed requests in quarantine: slow",
        "The certificate expires in 2 days",
    ]


@given(documents())
def test_verdict_is_the_gravest_of_its_reasons(status: Status) -> None:
    verdict = status.verdict
    levels = [LEVELS.index(reason.level) for reason in verdict.reasons]

    assert levels == sorted(levels, reverse=True)
    assert LEVELS.index(verdict.level) == max(levels, default=0)
    assert verdict.headline == (verdict.reasons[0].text if levels else verdict.headline)
    assert all(reason.text.isprintable() for reason in verdict.reasons)
    worst: list[HostStatus] = [each for each in status.hosts if host_level(each) != "well"]
    assert not worst or verdict.level != "well"
