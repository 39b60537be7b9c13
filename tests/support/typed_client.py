# SPDX-License-Identifier: GPL-2.0-or-later
"""The client library as an application sees it: its types, for mypy and pyright to check."""

from __future__ import annotations

from typing import assert_type

from lonc_gevent.client import (
    AsyncClient,
    Client,
    ClientError,
    ConLost,
    ConLostError,
    Connection,
    ReplyError,
    aio,
    command,
    critical,
    freeze,
    many,
    parse_list,
    parse_pairs,
    raise_for_error,
    reply,
)


def blocking() -> None:
    """Use every name that sends, by blocking."""
    with Client(sockets="/s", timeout=1, connect_timeout=0.5, retry="idempotent") as client:
        assert_type(client, Client)
        assert_type(client.reply(b"x", "h", timeout=1, encrypt=True, check=True), bytes)
        assert_type(client.critical(b"x", "h", on_con_lost="return"), bytes)
        assert_type(client.many({"h": b"x"}), dict[str, bytes | ClientError])
        assert_type(client.host("h").reply(b"x", retry="never", timeout=2), bytes)
        assert_type(client.host("h").critical(b"x"), bytes)
    with Connection("h", timeout=3, sockets="/s") as connection:
        assert_type(connection.reply(b"x"), bytes)
    assert_type(reply(b"x", "h"), bytes)
    assert_type(critical(b"x", "h", sockets="/s"), bytes)
    assert_type(many({"h": b"x"}), dict[str, bytes | ClientError])


async def waiting() -> None:
    """Use every name that sends, with asyncio."""
    async with AsyncClient(sockets="/s") as client:
        assert_type(client, AsyncClient)
        assert_type(await client.reply(b"x", "h", timeout=1, encrypt=True), bytes)
        assert_type(await client.critical(b"x", "h", on_con_lost="return"), bytes)
        assert_type(await client.many({"h": b"x"}), dict[str, bytes | ClientError])
        assert_type(await client.host("h").reply(b"x", retry="never"), bytes)
        assert_type(await client.host("h").critical(b"x"), bytes)
    async with aio.Connection("h", timeout=3) as connection:
        assert_type(await connection.reply(b"x"), bytes)
    assert_type(await aio.reply(b"x", "h"), bytes)
    assert_type(await aio.critical(b"x", "h", sockets="/s"), bytes)
    assert_type(await aio.many({"h": b"x"}), dict[str, bytes | ClientError])
    assert_type(aio.command("x"), bytes)


def values(error: ClientError, answer: bytes) -> None:
    """Use what does not send."""
    assert_type(error.may_have_run, bool | None)
    assert_type(ReplyError("error").word, str)
    assert_type(command("get", "d", 1, ["a"], {"b": 2}), bytes)
    assert_type(parse_pairs(answer), dict[str, str])
    assert_type(parse_list(raise_for_error(answer)), list[str])
    assert_type(freeze({"a": ["b", {"c": "d"}]}), bytes)
    caught: type[ConLostError] = ConLost
    assert_type(caught, type[ConLostError])
