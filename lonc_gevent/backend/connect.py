# SPDX-License-Identifier: GPL-2.0-or-later
"""Connecting to a lond: the addresses one after another, TCP, and the handshake."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING

from lonc_gevent.errors import (
    ConnectTimeoutError,
    NotSentError,
    UnforeseenError,
    UnreachableError,
    UnresolvableError,
)
from lonc_gevent.eventloop import UNLIMITED

from .dial import candidates, dial
from .handshake_io import FallBackError, shake_hands
from .lond import Lond
from .resolver import resolver_of

if TYPE_CHECKING:
    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import MemoryBudget, Stream
    from lonc_gevent.protocol.handshake import Session

    from .resolver import Address
    from .tls import Credentials


def connect(
    host: HostSettings,
    hub: Hub,
    stream: Stream,
    credentials: Credentials,
    memory: MemoryBudget = UNLIMITED,
) -> Lond:
    """Connect to the host's lond, on the empty `stream`, and shake hands.

    memory: counts long replies.

    Tries each address, for `connect_timeout` and `handshake_timeout`, until a handshake completes.
    If TLS fails and the host may be used without, the address is dialled once more without TLS,
    and `Session.fell_back` holds the reason. Raises NotSentError for any failure, with the stream
    closed.
    """
    try:
        session, address = _first_that_works(host, hub, stream, credentials)
        return Lond(stream, session, host.server_id, host.pool.max_reply_bytes, address, memory)
    except NotSentError:
        raise
    except Exception as error:  # noqa: BLE001 - any error shuts the retry gate
        stream.close()
        raise UnforeseenError(_place(error)) from None
    except BaseException:  # killed: an unfinished connection must not be used
        stream.close()
        raise


def _first_that_works(
    host: HostSettings, hub: Hub, stream: Stream, credentials: Credentials
) -> tuple[Session, Address]:
    resolver = resolver_of(hub)
    addresses = candidates(host, hub)
    failure: NotSentError | None = None
    while addresses:
        try:
            address = dial(host, addresses, stream)
            session = _session(host, address, stream, credentials)
        except NotSentError as error:
            stream.close()
            # The error of a lond that accepts explains more than that of an unreachable address.
            if failure is None or not isinstance(error, UnreachableError | ConnectTimeoutError):
                failure = error
        else:
            resolver.worked(host, address)
            return session, address
    resolver.failed(host)
    raise failure or UnresolvableError(f"{host.dns_name}: no address")


def _session(
    host: HostSettings, address: Address, stream: Stream, credentials: Credentials
) -> Session:
    """Shake hands on the connected stream; on FallBackError again without TLS, after a new dial."""
    try:
        return shake_hands(host, stream, credentials)
    except FallBackError as failure:
        stream.close()
        dial(host, [address], stream)
        return shake_hands(host, stream, credentials, fell_back=str(failure))


def _place(error: Exception) -> str:
    """Return the type of an error and where it was raised, not its text, which may be secret."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.name}, {PurePath(frame.filename).name}:{frame.lineno}"
