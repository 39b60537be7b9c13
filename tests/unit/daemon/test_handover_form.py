# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of a handover: which programs understand it, and what it shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from lonc_gevent.backend.snapshot import TransactionSnapshot
from lonc_gevent.backend.stats import DURATION_BOUNDS
from lonc_gevent.daemon.handover import VERSION, Handover
from lonc_gevent.frontend.client_connection import ClientSnapshot

if TYPE_CHECKING:
    from snapshots import Snapshot


def test_form_of_a_whole_handover_changes_with_its_version(snapshot: Snapshot) -> None:
    """A program with the same VERSION decodes it.

    If this fails, increase VERSION unless only fields with a default are added.
    """
    schema = msgspec.json.schema(Handover)
    fields = {
        name: {key: field.get("type") or field.get("$ref") for key, field in sorted(of.items())}
        for name, each in sorted(schema["$defs"].items())
        if (of := each.get("properties"))
    }
    form = {"version": VERSION, "buckets": len(DURATION_BOUNDS) + 1, "fields": fields}
    snapshot(json.dumps(form, indent=1) + "\n")


def test_handover_of_version_2_is_understood() -> None:
    """As a program before version 3 writes it; the state that it does not have is empty."""
    text = (
        b'{"locks":[3],"sockets":[{"path":"/s/msul2","fd":7,"inode":9}],'
        b'"clients":[{"host":"msul2","fd":12,"unread":"ZWNobw=="}],"pid_file":"","admin":"/s/a",'
        b'"version":2,"listen":"","files":{"/c":"eA=="},"arguments":["run"],"reloads":[],'
        b'"paused":["nscll1"],"unknown":1}'
    )
    handover = msgspec.json.decode(text, type=Handover)
    assert handover.clients == (ClientSnapshot("msul2", 12, b"echo"),)
    assert (handover.pools, handover.delayed, handover.history) == ((), (), None)
    assert sorted(handover.descriptors()) == [3, 7, 12]
    assert handover.is_restart


def test_repr_shows_no_request_and_no_reply() -> None:
    """It may get into a log line or the text of an exception."""
    states = (
        ClientSnapshot("msul2", 1, b"CANARY", unsent=b"CANARY"),
        TransactionSnapshot(b"CANARY", 0.0, 1),
        Handover(clients=(ClientSnapshot("msul2", 1, b"CANARY"),), files={"/c": b"CANARY"}),
    )
    assert "CANARY" not in repr(states)
