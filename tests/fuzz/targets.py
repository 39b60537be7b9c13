# SPDX-License-Identifier: GPL-2.0-or-later
"""What takes bytes from others, each as a function that any bytes must leave standing.

A target raises if what must hold does not: an error that is not of the tree, a byte lost, two
ways to the same result that differ. `scripts/fuzz` runs them under atheris, which looks for new
paths; tests/tools/test_fuzz.py runs them over their corpora and random changes of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import delayed_targets

from lonc_gevent.configuration import hosts_tab, loncapa_conf
from lonc_gevent.configuration.certificates import check_dates, check_together, expires
from lonc_gevent.configuration.check import check
from lonc_gevent.configuration.problems import Sheet
from lonc_gevent.doctor.diagnosis import describe_reply, masked
from lonc_gevent.errors import BadSealedReplyError, LondError
from lonc_gevent.protocol.cipher import Cipher
from lonc_gevent.protocol.handshake import Handshake, LocalKey
from lonc_gevent.protocol.handshake_tables import TABLES
from lonc_gevent.protocol.lines import (
    LineBuffer,
    LineTooLongError,
    clear_prefix,
    encrypted_part,
    split_sethost,
    verb,
)
from lonc_gevent.protocol.tls_records import MAX_TAIL, NotARecordError, Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY: Final = bytes(range(16))
_MODES: Final = sorted(TABLES)


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut data into pieces whose sizes the data itself says: first a size, then the bytes."""
    at = 0
    while at < len(data):
        size = data[at] % 40 + 1
        yield data[at + 1 : at + 1 + size]
        at += 1 + size


def lines(data: bytes) -> None:
    """Give the same lines as a split does, however the bytes come."""
    limit = 64
    buffer = LineBuffer(limit)
    fed = b""
    got: list[bytes] = []
    try:
        for piece in pieces(data):
            if not piece:
                continue
            fed += piece
            line = buffer.add(piece)
            while line is not None:
                got.append(bytes(line))
                line = buffer.take()
            assert len(buffer) < limit
    except LineTooLongError:
        rest = fed[sum(map(len, got)) :]
        end = rest.find(b"\n") + 1
        assert end > limit or (not end and len(rest) >= limit)
    else:
        assert b"".join(got) + buffer.rest() == fed
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in got)
    assert all(len(line) <= limit for line in got)


def requests(data: bytes) -> None:
    """Take prefixes off a request without a byte lost, and make a verb that is fit for a log."""
    request = data.replace(b"\n", b" ") + b"\n"
    host, rest = split_sethost(request)
    assert request == (b"sethost:%s:%s" % (host, rest) if rest != request else rest)
    start = encrypted_part(request)
    if start:
        assert request == clear_prefix(request, start) + b"encrypt:" + request[start:]
    word = verb(request)
    assert word.isprintable()
    assert word.isascii()


def handshake(data: bytes) -> None:
    """Lead any lines to a session, to a wait, or to one error of the tree that stays."""
    if not data:
        return
    security, negotiation = _MODES[data[0] % len(_MODES)]
    local = LocalKey("/x", KEY) if security == "local" else None
    one = Handshake(
        server_id="msul2",
        client_id="msul1",
        negotiation=negotiation,
        security=security,
        local=local,
    )
    one.start()
    failed: type[LondError] | None = None
    for line in data[1:].splitlines(keepends=True):
        try:
            said = one.receive(line)
        except LondError as error:
            again = failed in (None, type(error))
            failed = type(error) if again else LondError
        else:
            assert failed is None
            assert not said or (said.endswith(b"\n") and said.count(b"\n") == 1)
        if one.complete:
            assert len(one.session.key) == len(KEY)
            assert one.session.security != "ssl-or-insecure"
            assert (
                (security == "insecure")
                or one.session.security != "insecure"
                or (security == "ssl-or-insecure" and one.session.fell_back)
            )
    assert failed is not LondError
    one.lost()
    assert not one.may_fall_back or security == "ssl-or-insecure"


def tls_records(data: bytes) -> None:
    """Give, after TLS, an end of what went in, and hold little."""
    tail = Tail()
    fed = out = b""
    try:
        for piece in pieces(data):
            fed += piece
            out += tail.plain(piece)
    except NotARecordError:
        assert len(fed) > MAX_TAIL
    assert fed.endswith(out)


def sealed(data: bytes) -> None:
    """Open an `enc:` line to one line, in one way, or refuse it."""
    cipher = Cipher(KEY)
    try:
        clear = cipher.open(data)
    except BadSealedReplyError:
        clear = None
    try:
        in_pieces = b"".join(cipher.open_pieces(data))
    except BadSealedReplyError:
        in_pieces = None
    assert clear == in_pieces
    if clear is not None:
        assert b"\n" not in clear
        assert cipher.open(cipher.seal(clear)) == clear
    payload = data.replace(b"\n", b" ")
    assert cipher.open(cipher.seal(payload)) == payload


def hosts(data: bytes) -> None:
    """Make good lines of any hosts.tab, and problems that a terminal can show."""
    sheet = Sheet("hosts.tab")
    tab = hosts_tab.parse(data, sheet)
    assert len({line.id for line in tab.hosts}) == len(tab.hosts)
    assert {line.id for line in tab.hosts} <= tab.ids
    assert all(str(problem).isprintable() for problem in sheet.problems())


def loncapa(data: bytes) -> None:
    """Make names and values of any loncapa.conf, each of one line."""
    for name, variable in loncapa_conf.parse(data).items():
        assert name
        assert "\n" not in name + variable.value
        assert 1 <= variable.line <= data.count(b"\n") + 1


def configuration(data: bytes) -> None:
    """Make of any TOML file and hosts.tab a configuration or problems, never both or none."""
    toml, _, tab = data.partition(b"\x00")
    checked = check(toml, file="lonc.toml", folder="/etc/lonc", read=lambda _path: tab)
    assert (checked.configuration is None) is bool(checked.problems)
    assert all(str(problem).isprintable() for problem in checked.problems)


def certificates(data: bytes) -> None:
    """Find faults in any three files, and raise nothing."""
    one, _, rest = data.partition(b"\x00")
    two, _, three = rest.partition(b"\x00")
    faults = [*check_together(one, two, three), *check_dates(one, three, 1.7e9)]
    assert all(fault.found and fault.key.startswith("network.") for fault in faults)
    expires(one)


def report(data: bytes) -> None:
    """Show any line short, printable and in one line."""
    for line in data.splitlines(keepends=True):
        for ours in (True, False):
            shown = masked(line, ours=ours)
            assert shown.isprintable()
            assert len(shown) < 400
        assert describe_reply(line, "msul2").isprintable()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "lines": lines,
    "requests": requests,
    "handshake": handshake,
    "tls_records": tls_records,
    "sealed": sealed,
    "hosts": hosts,
    "loncapa": loncapa,
    "configuration": configuration,
    "certificates": certificates,
    "report": report,
    **delayed_targets.TARGETS,
}

SEEDS: dict[str, list[bytes]] = {
    "lines": [b"\x05ping\n\x00", b"\x27" + b"x" * 40 + b"\x27" + b"y" * 39 + b"\n"],
    "requests": [b"sethost:msul2:encrypt:auth:x", b"encrypt:", b"sethost::", b"ping"],
    "handshake": [
        bytes([number]) + lines_
        for number in range(len(_MODES))
        for lines_ in (
            b"123\nok\nversion:$Revision: 1.402 $\nok\n5A0\n",
            b"123\nok\nunknown_cmd\nunknown_cmd\n5A0\n",
            b"ok:local\nversion:$Revision: 1.402 $\nok\n",
            b"ok:ssl\n00112233445566778899aabbccddeeff\nversion:1\nok\n",
        )
    ],
    "tls_records": [
        b"\x06\x15\x03\x03\x00\x02\x01\x00\x07version:",
        b"\x27\x17\x03\x03\x00\x20" + bytes(35),
    ],
    "sealed": [Cipher(KEY).seal(b"ping"), Cipher(KEY).seal(b"12345678"), b"enc:0:", b"enc:4:zz"],
    "hosts": [b"msul2:msu:library:a.example:127.0.0.1\n#x\n^b\n\nmsul2:x", b"a:b:c:d\r\n"],
    "loncapa": [b"PerlSetVar lonHostID msul1\n", b"  PerlSetVar\tlondPort  5663 x\r\n"],
    "configuration": [
        b'[network]\nhost_id = "msul1"\nhosts_tab = "t"\n\x00msul1:msu:library:a.example\n',
        b'[hosts.msul2]\nport = "x"\n[pool]\nmax_conections = 3\n\x00',
    ],
    "certificates": [b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n\x00\x00"],
    "report": [b"init\nversion:$Revision: 1.402 $\nok\n1234\n", b"init:local:/x:1\nerror:x\n"],
    **delayed_targets.SEEDS,
}
"""Where the search begins; tests/fuzz/corpus/ has what it found worth keeping."""
