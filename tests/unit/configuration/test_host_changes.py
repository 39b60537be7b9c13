# SPDX-License-Identifier: GPL-2.0-or-later
"""What a new list of hosts means for those that are served."""

from __future__ import annotations

import msgspec
from hosts import host_settings

from lonc_gevent.configuration.host_changes import compare
from lonc_gevent.configuration.settings import Pool

ONE = host_settings("one")
TWO = host_settings("two")
THREE = host_settings("three")


def test_added_and_removed_hosts_are_distinguished() -> None:
    """New ids are added, ids that are not there any more are removed, in their order."""
    changes = compare([ONE, TWO], [THREE, ONE])

    assert (changes.added, changes.removed, changes.changed) == ((THREE,), ("two",), ())


def test_each_option_counts() -> None:
    """Whatever changes how, where or within which limits a lond is spoken to makes a change."""
    for field, value in {
        "dns_name": "other.example",
        "address": "192.0.2.1",
        "port": 1,
        "security": "ssl",
        "negotiation": "legacy",
        "init_version": "1",
        "client_id": "them",
        "server_id": "x",
        "pool": Pool(reply_timeout=1.0),
    }.items():
        other = msgspec.structs.replace(ONE, **{field: value})
        assert compare([ONE], [other]).changed == (other,), field


def test_what_is_for_people_does_not() -> None:
    """Another role or domain, or a new dns name of a host with an address, costs no connection."""
    other = msgspec.structs.replace(ONE, role="access", domain="e")
    fixed = msgspec.structs.replace(ONE, address="192.0.2.1")
    renamed = msgspec.structs.replace(fixed, dns_name="other.example")

    assert compare([ONE], [other]).changed == ()
    assert compare([fixed], [renamed]).changed == ()


def test_the_name_in_a_certificate() -> None:
    """Where lond shows a certificate, the dns name counts, wherever the host is."""
    fixed = msgspec.structs.replace(ONE, address="192.0.2.1", security="ssl-or-insecure")
    renamed = msgspec.structs.replace(fixed, dns_name="other.example")

    assert compare([fixed], [renamed]).changed == (renamed,)
