# SPDX-License-Identifier: GPL-2.0-or-later
"""Name resolution with a resolver that a test controls."""

from __future__ import annotations

import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
import pytest
from sim_lond import settings

from lonc_gevent.backend import resolver as resolver_module
from lonc_gevent.backend.resolver import STALE_WAIT, TROUBLED, Resolver
from lonc_gevent.errors import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.settings import HostSettings


class Names:
    """What getaddrinfo finds: by name, addresses, or an error. It never returns for other names."""

    def __init__(self) -> None:
        self.found: dict[str, list[str] | OSError] = {}
        self.asked: list[str] = []
        self.in_threads = 0
        self.released = threading.Event()

    def getaddrinfo(self, name: str, port: int, **options: Any) -> list[Any]:
        """Behave as socket.getaddrinfo."""
        if options.get("flags"):
            return socket.getaddrinfo(name, port, **options)
        self.asked.append(name)
        if name not in self.found:
            self.in_threads += 1
            self.released.wait(20)
            self.in_threads -= 1
        found = self.found.get(name, socket.gaierror(-3, "Temporary failure"))
        if isinstance(found, OSError):
            raise found
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Replace getaddrinfo."""
    names = Names()
    monkeypatch.setattr(resolver_module, "getaddrinfo", names.getaddrinfo)
    yield names
    names.released.set()
    # Look-ups that wait for a thread still come, and must not reach the next test's names.
    quiet_since, asked = monotonic(), 0
    while monotonic() < quiet_since + 0.1:
        if names.in_threads or len(names.asked) != asked:
            quiet_since, asked = monotonic(), len(names.asked)
        gevent.sleep(0.01)


@pytest.fixture
def resolver() -> Resolver:
    """Return a resolver that knows nothing."""
    return Resolver(gevent.get_hub())


def host(name: str, **fields: Any) -> HostSettings:
    """Return the settings of a host of that DNS name."""
    return msgspec.structs.replace(settings(), dns_name=name, **fields)


def found(resolver: Resolver, name: str, timeout: float = 5.0) -> list[str]:
    """Return the addresses that the resolver finds for a name."""
    return [address.sockaddr[0] for address in resolver.addresses(host(name), timeout)]


def end_of_answers(resolver: Resolver) -> None:
    """Let all answers be too old to be used without a look-up."""
    for name in resolver._names.values():
        name.fresh_until = 0.0


def test_name_is_resolved_while_300_others_get_no_answer(names: Names, resolver: Resolver) -> None:
    """Neither the first look-ups of dead names nor their next ones delay another name."""
    names.found["good"] = ["192.0.2.1"]
    for _ in range(2):
        others = [gevent.spawn(lookup_error, resolver, f"dead{n}") for n in range(300)]
        gevent.sleep(0.01)
        began = monotonic()
        assert found(resolver, "good") == ["192.0.2.1"]
        assert monotonic() - began < 1.0
        end_of_answers(resolver)
        gevent.joinall(others)
        assert {other.value for other in others} == {"UnresolvableError"}


def lookup_error(resolver: Resolver, name: str) -> str:
    """Return the type of the error that a short look-up raises."""
    try:
        found(resolver, name, 0.2)
    except UnresolvableError as error:
        return type(error).__name__
    return ""


def test_names_that_fail_keep_few_threads(names: Names, resolver: Resolver) -> None:
    """Once their first look-ups have failed, they share some threads."""
    names.found |= {f"dead{n}": socket.gaierror(-3, "Temporary failure") for n in range(50)}
    for n in range(50):
        assert lookup_error(resolver, f"dead{n}")
    names.found.clear()
    gevent.joinall([gevent.spawn(lookup_error, resolver, f"dead{n}") for n in range(50)])

    assert names.in_threads == TROUBLED


def test_name_has_one_look_up_at_a_time(names: Names, resolver: Resolver) -> None:
    """Several connections wait for the same look-up."""
    waiting = [gevent.spawn(lookup_error, resolver, "dead") for _ in range(20)]
    while not names.asked:
        gevent.sleep(0.01)
    gevent.joinall(waiting)

    assert lookup_error(resolver, "dead")
    assert names.asked.count("dead") == 1


@pytest.mark.parametrize("slow", [True, False])
def test_last_answer_is_used_while_no_other_is_to_be_had(
    names: Names, resolver: Resolver, slow: bool
) -> None:
    """The wait for a better one is short, and is not repeated."""
    names.found["name"] = ["192.0.2.1"]
    assert found(resolver, "name") == ["192.0.2.1"]
    if slow:
        del names.found["name"]
    else:
        names.found["name"] = socket.gaierror(-2, "Name or service not known")

    end_of_answers(resolver)
    began = monotonic()
    assert found(resolver, "name") == ["192.0.2.1"]
    assert monotonic() - began < STALE_WAIT + 0.5
    began = monotonic()
    assert found(resolver, "name") == ["192.0.2.1"]
    assert monotonic() - began < STALE_WAIT / 2


def test_answer_is_used_for_the_interval_unless_connecting_failed(
    names: Names, resolver: Resolver
) -> None:
    """A look-up for each connection is not needed; after a failure the answer is in doubt."""
    names.found["name"] = ["192.0.2.1"]
    assert found(resolver, "name") == found(resolver, "name") == ["192.0.2.1"]
    assert names.asked.count("name") == 1

    names.found["name"] = ["192.0.2.2"]
    resolver.failed(host("name"))
    assert found(resolver, "name") == ["192.0.2.2"]


def test_address_that_worked_comes_first_until_it_is_gone(names: Names, resolver: Resolver) -> None:
    """The others keep their order."""
    names.found["name"] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    resolver.worked(host("name"), resolver.addresses(host("name"), 1.0)[2])
    assert found(resolver, "name") == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]

    names.found["name"] = ["192.0.2.1", "192.0.2.2"]
    end_of_answers(resolver)
    assert found(resolver, "name") == ["192.0.2.1", "192.0.2.2"]


def test_name_without_a_thread_is_unresolvable(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of processes is an error like any other."""

    def start(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(resolver_module, "start_new_thread", start)

    with pytest.raises(UnresolvableError, match="no thread can be started"):
        found(resolver, "localhost")


def test_numeric_address_needs_no_look_up(names: Names, resolver: Resolver) -> None:
    """An address setting, and the loopback address of security local."""
    numeric = [host("name", address="::1"), host("name", security="local")]

    assert [resolver.addresses(each, 1.0)[0].sockaddr[0] for each in numeric] == [
        "::1",
        "127.0.0.1",
    ]
    for each in numeric:
        resolver.failed(each)
    assert names.asked == []
