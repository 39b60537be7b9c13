# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of settings that may make a trial of the doctor work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lonc_gevent.protocol.handshake_tables import State

from .diagnosis import PING, Trial, Way

if TYPE_CHECKING:
    from collections.abc import Iterable

SOME_VERSION = "1"
"""init_version that is tried with a lond that may require one."""

_EARLY_ERRORS = ("refused", "handshake_lost", "handshake_garbage", "challenge_failed")

_WEAK = ("too weak", "too small")

_AFTER_TLS = (State.VERSION.value, State.VERSION.name)


def changes(trial: Trial, client_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return the changes that may help, the most likely first.

    client_ids: other ids that lond may know this server by
    """
    way = trial.way
    found: list[dict[str, Any]] = []
    if trial.has_no_certificates and not trial.has_session:
        return found
    if trial.error in _EARLY_ERRORS and way.negotiation != "auto":
        found.append({"negotiation": "auto"})
    if way.security.startswith("ssl"):
        found += _tls_changes(trial)
    if trial.error in _EARLY_ERRORS:
        found.append({"init_version": "" if way.init_version else SOME_VERSION})
    if trial.has_session and trial.replies.get(PING) == "ok":
        found += [{"client_id": name} for name in client_ids]
    return found


def _tls_changes(trial: Trial) -> list[dict[str, Any]]:
    """Return changes that may make TLS work."""
    changes: list[dict[str, Any]] = []
    if "ostname mismatch" in trial.detail or "IP address mismatch" in trial.detail:
        changes.append({"check_certificate_name": False})
    lower = {"1.3": ("1.2", "1.0"), "1.2": ("1.0",)}.get(trial.way.tls_minimum, ())
    if "protocol" in trial.detail:
        changes += [{"tls_minimum": version} for version in lower]
    elif any(text in trial.detail for text in _WEAK) and lower:
        changes.append({"tls_minimum": "1.0"})
    if any(text in trial.detail for text in _AFTER_TLS) or trial.way.tls_close_notify:
        changes.append({"tls_close_notify": not trial.way.tls_close_notify})
    return changes


def but(way: Way, **changes: Any) -> Way:
    """Return the settings with these changes."""
    known = {name: getattr(way, name) for name in Way.__dataclass_fields__}
    return Way(**{**known, **changes})
