# SPDX-License-Identifier: GPL-2.0-or-later
"""The key and the cipher against an independent pair: Perl's own `tr` and `pack`, and CryptX.

Debian's libcryptx-perl is used where it is installed, else unpacked into a temporary directory
(nothing is installed). Where neither can be, the tests are skipped and say why.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lonc_gevent.protocol.cipher import Cipher, session_key

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "libcryptx-perl"

# protocol.md, section 4, said once more in Perl. A line in: server, client, build key, and the
# payload in hex. A line out: the key in hex, and the sealed line.
ORACLE = r"""
use strict; use warnings;
use Crypt::Cipher;
while (my $line = <STDIN>) {
    chomp $line;
    my ($server, $client, $buildkey, $hex) = split / /, $line, 4;
    my $ids = $server . $client;
    $ids =~ tr/a-z/A-Z/;
    $ids =~ tr/G-P/0-9/;
    $ids =~ tr/Q-Z/0-9/;
    my $digits = substr(($ids . $buildkey) x 3, 0, 32);
    my $key = pack "H32", $digits;
    my $idea = Crypt::Cipher->new("IDEA", $key);
    my $payload = pack "H*", $hex;
    my $length = length $payload;
    my $padded = $payload . " " x 8;
    my $sealed = "";
    for (my $at = 0; $at <= $length; $at += 8) {
        # CryptX 0.091 takes a string, but no bare substr, which is an lvalue.
        $sealed .= unpack "H16", $idea->encrypt("" . substr $padded, $at, 8);
    }
    print unpack("H32", $key), " enc:$length:$sealed\n";
}
"""


def works(env: dict[str, str]) -> bool:
    """Tell whether Perl finds the cipher."""
    command = ["perl", "-e", 'use Crypt::Cipher; Crypt::Cipher->new("IDEA", "k" x 16)']
    return not subprocess.run(command, env=env, capture_output=True, check=False).returncode


def unpack(directory: Path) -> str:
    """Unpack Debian's package into the directory; say why that did not work, "" if it did."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            return f"there is no {tool} here"
    try:
        done = subprocess.run(
            ["apt-get", "download", "-q", PACKAGE],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{PACKAGE} could not be fetched in time"
    packages = list(directory.glob("*.deb"))
    if done.returncode or not packages:
        return f"{PACKAGE} could not be fetched: {done.stderr.strip().splitlines()[-1:]}"
    subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(directory)], check=True)
    return ""


@pytest.fixture(scope="module")
def perl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the environment in which Perl finds CryptX."""
    if shutil.which("perl") is None:
        pytest.skip("there is no perl here")
    env = dict(os.environ)
    if works(env):
        return env
    directory = tmp_path_factory.mktemp("perl")
    directory.chmod(0o755)
    reason = unpack(directory)
    if reason:
        pytest.skip(f"no CryptX for Perl: {reason}")
    places = {str(path.parents[1]) for path in directory.rglob("Crypt/Cipher.pm")}
    env["PERL5LIB"] = ":".join(sorted(places))
    if not works(env):
        pytest.skip("no CryptX for Perl: the package that was fetched does not run here")
    return env


def ask(env: dict[str, str], cases: list[tuple[str, str, bytes, bytes]]) -> list[tuple[str, bytes]]:
    """Ask Perl for the key and the sealed line of each case."""
    lines = "".join(
        f"{server} {client} {build_key.decode()} {payload.hex()}\n"
        for server, client, build_key, payload in cases
    )
    done = subprocess.run(
        ["perl", "-e", ORACLE], input=lines.encode(), env=env, capture_output=True, check=True
    )
    answers = [line.split(b" ", 1) for line in done.stdout.splitlines()]
    return [(key.decode(), sealed) for key, sealed in answers]


def test_the_worked_example(perl: dict[str, str]) -> None:
    """Perl and protocol.md agree on the worked example: the oracle is a right one."""
    case = ("msul1", "nscll1", b"48213A0EAF00000BCA790BA07734", b"auth:msu:smith:secret")

    assert ask(perl, [case]) == [
        (
            "6245172c55148213a0eaf00000bca790",
            b"enc:21:76866955b8aec692832f58f0d9ba24497dc7385e79ce0c06",
        )
    ]


def test_a_thousand_cases(perl: dict[str, str]) -> None:
    """For any ids, build keys and payloads, Perl makes the same key and the same line."""
    rng = random.Random()
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    cases = [
        (
            "".join(rng.choices(letters, k=rng.randint(1, 20))),
            "".join(rng.choices(letters, k=rng.randint(1, 20))),
            "".join(rng.choices("0123456789ABCDEF", k=rng.randint(1, 40))).encode(),
            rng.randbytes(rng.randint(0, 60)).replace(b"\n", b" "),
        )
        for _ in range(1000)
    ]

    for case, (key, sealed) in zip(cases, ask(perl, cases), strict=True):
        server, client, build_key, payload = case
        assert session_key(server, client, build_key).hex() == key, case
        cipher = Cipher(bytes.fromhex(key))
        assert cipher.seal(payload) == sealed, case
        assert cipher.open(sealed) == payload, case
