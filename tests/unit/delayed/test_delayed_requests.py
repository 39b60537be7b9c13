# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and contents of delayed requests, and the form in which they are sealed."""

from __future__ import annotations

from binascii import b2a_base64

import pytest

from lonc_gevent.delayed.requests import (
    Note,
    Verdict,
    age_of,
    file_name,
    first_word,
    host_of,
    is_final,
    is_housekeeping,
    judge,
    name_before,
    shown_name,
)
from lonc_gevent.delayed.seal import (
    NONCE_BYTES,
    SealKey,
    is_sealed,
    key_from_file,
    key_to_file,
    sealed_size,
)
from lonc_gevent.errors import UnsealError

KEY = SealKey(bytes(range(32)))
NONCE = b"n" * 12
NAME = b"1.2.3.put.msul1"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("1046.1.77.put.msul1", "msul1"),
        ("1046.1.77.put.s10.lite.msu", "s10.lite.msu"),
        ("1046.1.77.put.xmsul1", "xmsul1"),
        ("1046.1.77.put.*", "*"),
        ("1046.1.77.put", None),
        ("1046.1.77.put.", None),
        ("1046.1..put.msul1", None),
        ("msul1", None),
        ("", None),
    ],
)
def test_the_host_is_all_that_follows_the_fourth_dot(name: str, host: str | None) -> None:
    """The id is the rest of the name, dots included; a name of another shape has none."""
    assert host_of(name) == host


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("1046.000001.77.authmsalpw1.h", "1046.000001.77.*.h"),
        ("1046.1.77.putmsusomeoneenv.s10.lite.msu", "1046.1.77.*.s10.lite.msu"),
        ("2~1046.1.77.put.msul1", "2~1046.1.77.*.msul1"),
        ("1046.1.77.put", "*"),
        ("1046.1.77..msul1", "*"),
        ("1046.1.77.put.", "*"),
        ("1046.1.77.put secret.msul1", "*"),
        ("1046.1.77.put.ms ul1", "*"),
        ("1046.1.77.put.msul1\n", "*"),
        ("1046.1.secret.put.msul1", "*"),
        ("-1.1.77.put.msul1", "*"),
        ("x1046.1.77.put.msul1", "*"),
        (".new.1046.1.77.put.msul1", "*"),
        ("\u0661.1.77.put.msul1", "*"),
        ("authmsalpw1", "*"),
        ("", "*"),
    ],
)
def test_what_a_log_shows_of_a_name(name: str, shown: str) -> None:
    """Never the middle, which begins as the request does; of another shape, nothing at all."""
    assert shown_name(name) == shown


def test_a_written_name_can_be_read() -> None:
    """What file_name makes gives its host back, and sorts as it was written."""
    names = [file_name(micros, 77, b"put:a:b\n", "s10.l2") for micros in (999_999, 1_000_001)]

    assert names == ["0.999999.77.put.s10.l2", "1.000001.77.put.s10.l2"]
    assert [host_of(name) for name in names] == ["s10.l2", "s10.l2"]


@pytest.mark.parametrize(
    ("request_line", "middle"),
    [
        (b"put:msu:someone:environment\n", "put"),
        (b"ping\n", "ping"),
        (b"put_old-way:x\n", "put_old"),
        (b"a_command_of_more_than_sixteen:x\n", "a_command_of_mor"),
        (b"encrypt:auth:joe:secret\n", "encrypt"),
        (b"sethost:m:encrypt:auth:joe\n", "sethost"),
        (b":::\n", "_"),
        (b"\xe9t\xe9:x\n", "_"),
    ],
)
def test_the_middle_of_a_name(request_line: bytes, middle: str) -> None:
    """It is the command and nothing more of the request; of what is to be encrypted, not that."""
    assert file_name(0, 1, request_line, "h").split(".")[3] == middle


@pytest.mark.parametrize(
    ("data", "verdict", "reason"),
    [
        (b"ping\n", Verdict.READY, ""),
        (b"x" * 9 + b"\n", Verdict.READY, ""),
        (b"", Verdict.UNFINISHED, ""),
        (b"ping", Verdict.UNFINISHED, ""),
        (b"x" * 10 + b"\n", Verdict.BAD, "too_large"),
        (b"x" * 11, Verdict.BAD, "too_large"),
        (b"a\nb\n", Verdict.BAD, "several_lines"),
        (b"a\nb", Verdict.BAD, "several_lines"),
        (b"\n", Verdict.BAD, "empty_line"),
    ],
)
def test_what_a_content_is(data: bytes, verdict: Verdict, reason: str) -> None:
    """One line within the limit is ready; what has no end may grow; all else is bad."""
    assert judge(data, 10) == (verdict, reason)


@pytest.mark.parametrize("line", [b"reset_retries\n", b"close_connection_exit\n"])
def test_control_lines_are_never_sent(line: bytes) -> None:
    """What is meant for the daemon itself does not go to lond."""
    assert judge(line, 100) == (Verdict.BAD, "control_line")


def test_housekeeping() -> None:
    """What begins with a dot, and the quarantine, are no requests."""
    assert [is_housekeeping(n) for n in (".new.1", ".lonc.lock", "quarantine", "1.2.3.a.h")] == [
        True,
        True,
        True,
        False,
    ]


def test_the_age_when_the_clock_was_set_back() -> None:
    """A time that lies ahead does not count; if all do, the age is unknown."""
    assert age_of(100.0, 90.0, 99.0) == 10.0
    assert age_of(100.0, 200.0, 99.0) == 1.0
    assert age_of(100.0, 200.0, 300.0) == -100.0


@pytest.mark.parametrize(
    ("answer", "word", "final"),
    [
        (b"error:no such user\n", "error", False),
        (b"error: 0 tie(GDBM) Failed while attempting put\n", "error", False),
        (b"error no\n", "error", False),
        (b"con_lost\n", "con_lost", False),
        (b"con_failed\n", "con_failed", False),
        (b"refused\n", "refused", False),
        (b"refused\r\n", "refused", False),
        (b"rejected\n", "rejected", False),
        (b"unable_to_set\n", "unable_to_set", False),
        (b"unknown_cmd\n", "unknown_cmd", False),
        (b"ok\n", "ok", True),
        (b"con_delayed\n", "con_delayed", True),
        (b"refusedly\n", "refusedly", True),
        (b"\n", "", True),
        (b"\xff\n", "\\xff", True),
    ],
)
def test_answer_is_final_by_its_first_word(answer: bytes, word: str, final: bool) -> None:
    """It ends at a colon or blank, and says whether lond ran the request."""
    assert (first_word(answer), is_final(answer)) == (word, final)


@pytest.mark.parametrize("note", [Note(), Note(3), Note(5, "max_attempts")])
def test_a_note_can_be_read_back(note: Note) -> None:
    """What is remembered survives being written down."""
    assert Note.from_bytes(note.to_bytes()) == note


@pytest.mark.parametrize("data", [b"", b"x", b"-1 a", b"9" * 30, b"\xff"])
def test_a_broken_note_is_no_note(data: bytes) -> None:
    """Whatever is in a note, reading it does no harm."""
    assert Note.from_bytes(data) == Note()


def test_a_number_of_the_quarantine() -> None:
    """A number before a name is taken off, and nothing else."""
    assert name_before("2~1.2.3.a.h") == "1.2.3.a.h"
    assert name_before("1.2.3.a.h~2") == "1.2.3.a.h~2"


@pytest.mark.parametrize("size", [1, 2, 3, 100, 48 * 1024, 200_000])
def test_what_is_sealed_can_be_opened(size: int) -> None:
    """Sealing is one line of the size foretold, holds nothing in clear, and opens again."""
    request = b"encrypt:" + b"s" * size + b"\n"

    line = KEY.seal(request, NAME, NONCE)

    assert is_sealed(line)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) == sealed_size(len(request))
    assert b"encrypt" not in line
    assert KEY.open(line, NAME) == request


def test_any_changed_byte_is_noticed() -> None:
    """No single byte can be changed so that it opens, or passes for a request in clear."""
    line = KEY.seal(b"encrypt:auth:joe:secret\n", NAME, NONCE)

    for i in range(len(line)):
        for flip in (0x01, 0x20, 0x80):
            changed = line[:i] + bytes([line[i] ^ flip]) + line[i + 1 :]
            assert is_sealed(changed)
            with pytest.raises(UnsealError):
                KEY.open(changed, NAME)


def fails(line: bytes, name: bytes = NAME) -> str:
    """Open what is no good; return the error's kind."""
    with pytest.raises(UnsealError) as caught:
        SealKey(bytes(range(32))).open(line, name)
    return caught.value.kind


def test_each_kind_of_a_bad_seal() -> None:
    """Another version is unknown; whatever else is wrong with the form, it is broken."""
    key = SealKey(bytes(range(32)))
    line = key.seal(b"encrypt:x\n", NAME, NONCE)
    head, coded = line[: -len(line.rpartition(b":")[2])], line.rpartition(b":")[2]
    short = b2a_base64(bytes(NONCE_BYTES + 15), newline=False)

    assert key.open(line, NAME) == b"encrypt:x\n"
    assert fails(line.replace(b":1:", b":2:", 1)) == "unknown_seal"
    assert fails(head[:-1]) == "broken_seal"
    assert fails(line[:-1]) == "broken_seal"
    assert fails(head + b"!" + coded[1:]) == "broken_seal"
    assert fails(head + b"\n" + coded) == "broken_seal"
    assert fails(head + short + b"\n") == "broken_seal"
    assert fails(head + b2a_base64(bytes(NONCE_BYTES + 16))) == "broken_seal"
    assert fails(head + b"x:" + coded) == "broken_seal"
    assert fails(line, b"another") == "broken_seal"


def test_the_nonce_has_its_length() -> None:
    """Another one is an error, and says so."""
    with pytest.raises(ValueError, match="a nonce of 11 bytes, expected 12"):
        KEY.seal(b"x\n", NAME, NONCE[:-1])


def test_the_form_is_the_same_for_ever() -> None:
    """Files on disk outlive a version: nothing of the form may change."""
    line = SealKey(bytes(range(32))).seal(b"encrypt:x\n", b"1.2.3.put.host", bytes(12))

    assert line == (
        b"lonc-sealed:1:6cf6c1ad:AAAAAAAAAAAAAAAAa9LWrMxc94dwoijMBQx+f6pNsHb+WBzyX24=\n"
    )


def test_the_mark_alone() -> None:
    """A form that ends with its mark, or has three bytes of it wrong, is still none to be sent."""
    mark = b"lonc-sealed:1:"

    assert is_sealed(mark)
    assert not is_sealed(mark[:-1])
    assert is_sealed(b"xxx" + mark[3:])
    assert not is_sealed(b"xxxx" + mark[4:])


def test_a_missing_byte_is_noticed() -> None:
    """A form that was cut short does not open."""
    line = KEY.seal(b"encrypt:auth:joe:secret\n", NAME, NONCE)

    for end in range(len(b"lonc-sealed:1:"), len(line)):
        with pytest.raises(UnsealError):
            KEY.open(line[:end], NAME)


@pytest.mark.parametrize(
    ("key", "name", "kind"),
    [(SealKey(b"k" * 32), NAME, "wrong_key"), (KEY, b"1.2.3.put.other", "broken_seal")],
)
def test_another_key_or_name(key: SealKey, name: bytes, kind: str) -> None:
    """With another key, or as another file, it does not open, and the error says which."""
    line = KEY.seal(b"encrypt:x\n", NAME, NONCE)

    with pytest.raises(UnsealError) as caught:
        key.open(line, name)

    assert caught.value.kind == kind


def test_requests_are_not_taken_for_sealed_ones() -> None:
    """A request in clear is one, however it begins."""
    assert not is_sealed(b"encrypt:auth:a\n")
    assert not is_sealed(b"lonc-\n")
    assert not is_sealed(b"")


def test_a_key_file() -> None:
    """A key's file gives the key back; anything else is an error that shows nothing of it."""
    content = key_to_file(bytes(range(32)))

    assert key_from_file(content).id == KEY.id
    for bad in (b"", content[:-2], content + b"\n", content.upper(), b"lonc-key:2:" + content[11:]):
        with pytest.raises(ValueError, match="expected one line") as caught:
            key_from_file(bad)
        assert "0102" not in str(caught.value)
    with pytest.raises(ValueError, match="31 bytes"):
        SealKey(b"k" * 31)
    assert repr(KEY) == f"<SealKey {KEY.id}>"
