# SPDX-License-Identifier: GPL-2.0-or-later
"""An example of a web application that talks to the network through lonc-gevent.

One page: how loaded each host is, what one of them knows about a user, and a form that changes the
user's languages, with a request that is saved for later if the host is down. It is plain WSGI, so
that there is nothing to see but the library; gunicorn.conf.py beside it says how it is run.
"""

from __future__ import annotations

import time
from html import escape as text
from string import Template
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from page import PAGE, STYLE_HASH

from lonc_gevent.client import (
    CON_DELAYED,
    Client,
    ClientError,
    ConLostError,
    NoDaemonError,
    command,
    parse_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

TIMEOUT = 3.0
"""Seconds that a visitor may wait for the hosts; what came by then is shown."""

MAX_FORM = 4096
"""Bytes of a form."""

KEYS = ("firstname", "lastname", "permanentemail", "languages")
LABELS = ("First name", "Last name", "E-mail", "Languages")

lonc = Client(timeout=TIMEOUT)
"""The client of the whole process; its hosts are those that LONC_CONFIG names."""

HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src '{STYLE_HASH}'; form-action 'self'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]


class Query(NamedTuple):
    """Whom the visitor asks for; each of them goes into requests escaped."""

    host: str
    domain: str
    user: str


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request: `/` is the page, and there is nothing else."""
    if environ["PATH_INFO"] not in ("", "/"):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There is only one page here: /\n"]
    hosts = lonc.hosts  # read again only when they change
    posted = environ["REQUEST_METHOD"] == "POST"
    source = posted_text(environ) if posted else environ["QUERY_STRING"]
    fields = parse_qs(source, max_num_fields=10)
    asked = Query(
        host=fields.get("host", [hosts[0] if hosts else ""])[0],
        domain=fields.get("domain", ["msu"])[0],
        user=fields.get("user", ["ada"])[0],
    )
    began = time.monotonic()
    rows = host_rows(hosts)
    saved = ""
    if posted and asked.host in hosts:
        saved = save_languages(asked, fields.get("languages", [""])[0])
    user = user_card(asked) if asked.host in hosts else notice("Unknown host", asked.host)
    page = (
        Template(PAGE)
        .substitute(
            rows=rows,
            user=saved + user,
            options="".join(option(host, chosen=host == asked.host) for host in hosts),
            domain=text(asked.domain),
            user_name=text(asked.user),
            milliseconds=f"{(time.monotonic() - began) * 1000:.0f}",
            at=time.strftime("%H:%M:%S"),
            count=len(hosts),
        )
        .encode()
    )
    start_response("200 OK", [*HEADERS, ("Content-Length", str(len(page)))])
    return [page]


def posted_text(environ: WSGIEnvironment) -> str:
    """Return the fields of a form that was posted, as in a query string."""
    length = min(int(environ.get("CONTENT_LENGTH") or 0), MAX_FORM)
    body: bytes = environ["wsgi.input"].read(length)
    return body.decode("utf-8", "replace")


def save_languages(asked: Query, languages: str) -> str:
    """Change the user's languages; say whether that is done, or saved for later."""
    request = command("put", asked.domain, asked.user, "environment", {"languages": languages})
    try:
        answer = lonc.critical(request, asked.host, encrypt=True)
    except ClientError as error:
        return notice("Not saved", str(error))
    if answer == CON_DELAYED:
        words = f"{asked.host} cannot be reached now. lonc sends it once the host is back."
        return notice("Saved for later", words)
    return notice("Saved" if answer == b"ok" else "Refused", f"{asked.host} has answered.")


def host_rows(hosts: tuple[str, ...]) -> str:
    """Ask all hosts at once, and return a row of the table for each."""
    outcomes = lonc.many(dict.fromkeys(hosts, b"load"))
    return "".join(host_row(host, outcome) for host, outcome in outcomes.items())


def host_row(host: str, outcome: bytes | ClientError) -> str:
    """Return a row: its state, in words and not only in colour, and its load."""
    if isinstance(outcome, ClientError):
        state, why = trouble(outcome)
        return (
            f'<tr class="down"><th scope="row">{text(host)}</th>'
            f'<td><span class="state">{state}</span></td>'
            f'<td class="none" colspan="2">{why}</td></tr>'
        )
    try:
        load = float(outcome)
    except ValueError:
        load = 0.0
    return (
        f'<tr class="up"><th scope="row">{text(host)}</th>'
        f'<td><span class="state">up</span></td><td class="number">{load:.2f}</td>'
        f'<td><meter min="0" max="2" high="1.5" value="{load:.2f}">{load:.2f}</meter></td></tr>'
    )


def trouble(error: ClientError) -> tuple[str, str]:
    """Return a word and a few more for a host that gave no reply."""
    if isinstance(error, NoDaemonError):
        return "unknown", "lonc is not running here"
    if isinstance(error, ConLostError):
        return "down", "cannot be reached"
    return "silent", f"no answer within {TIMEOUT:g} s"


def user_card(asked: Query) -> str:
    """Fetch one user's data from a host; encrypted, for it is personal."""
    request = command("get", asked.domain, asked.user, "environment", KEYS)
    try:
        values = parse_list(lonc.reply(request, asked.host, encrypt=True))
    except ConLostError:
        return notice("No data", f"{asked.host} cannot be reached now. Please try again later.")
    except ClientError as error:
        return notice("No data", str(error))
    if len(values) != len(KEYS):
        return notice("No data", f"{asked.host} knows nothing of this user.")
    pairs = zip(LABELS, values, strict=True)
    return "<dl>{}</dl>".format(
        "".join(f"<dt>{label}</dt><dd>{text(value)}</dd>" for label, value in pairs)
    )


def notice(title: str, words: str) -> str:
    """Return a paragraph in place of data."""
    return f'<p class="notice"><strong>{text(title)}.</strong> {text(words)}</p>'


def option(host: str, *, chosen: bool) -> str:
    """Return an entry of the choice of hosts."""
    return f"<option{' selected' * chosen}>{text(host)}</option>"
