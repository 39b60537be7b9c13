# SPDX-License-Identifier: GPL-2.0-or-later
"""State diagrams made from the tables in the code, as Mermaid text for docs/architecture.md.

The document has a pair of comments, `<!-- diagram: NAME -->` and `<!-- end -->`, for each diagram;
`insert` replaces what stands between them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lonc_gevent.backend.pool_state import TRANSITIONS
from lonc_gevent.protocol.handshake_tables import (
    FIRST,
    OPENINGS,
    TABLES,
    UNEXPECTED_LINE_ERRORS,
    Keep,
    Move,
    Send,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lonc_gevent.errors import LondError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
PLACE = re.compile(r"(<!-- diagram: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WORDS = {Send.ECHO: "the same line", Send.SETHOST: "sethost:ID"}
"""Labels for the templates in `Send`."""

Edge = tuple[str, str, str]
"""From a state, to a state, and the label."""


def mermaid(edges: Iterable[Edge]) -> str:
    """Return a flowchart. Its labels are quoted, so they may contain colons."""
    lines = [f'    {start} -- "{label}" --> {end}' for start, end, label in edges]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def host() -> str:
    """Return the diagram of a host's states, those of its pool."""
    return mermaid((start.value, end.value, label) for (start, end), label in TRANSITIONS.items())


def handshake(security: str) -> str:
    """Return the diagram of a security mode, for all ways to negotiate."""
    ways = _ways(security)
    negotiations = [negotiation for mode, negotiation in TABLES if mode == security]
    arrows: dict[tuple[str, str, str], list[str]] = {}
    everywhere: dict[str, None] = {}
    for (state, kind, to, action), found in ways.items():
        states = {other for other, *same in ways if same == [kind, to, action]}
        if to == State.FAILED.name and states == {other for other, *_ in ways}:
            everywhere[f"`{kind}` raises `{action}`"] = None
            continue
        only = "" if found == negotiations else f" ({', '.join(found)})"
        arrows.setdefault((state, to, (action and f" / {action}") + only), []).append(kind)
    opening = OPENINGS[security].decode().rstrip("\n").replace("%(path)s", "FILE")
    edges: list[Edge] = [(State.NEW.name, FIRST[security].name, f"/ {opening}")]
    edges += [
        (start, end, " or ".join(kinds) + action) for (start, end, action), kinds in arrows.items()
    ]
    missing = [
        f", in {state.name} `{error.__name__}`"
        for state, error in UNEXPECTED_LINE_ERRORS.items()
        if any(state.name == start for start, *_ in ways)
    ]
    rest = f"a line without an arrow raises `HandshakeGarbageError`{''.join(missing)}"
    return f"{mermaid(edges)}\nIn every state {' and '.join(everywhere)}; {rest}.\n"


def _ways(security: str) -> dict[tuple[str, str, str, str], list[str]]:
    """Return each entry of the mode's tables as state, line, next state, action; and where it is.

    The action is the line that we send, or the error that is raised.
    """
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for (mode, negotiation), table in TABLES.items():
        for state, row in table.items() if mode == security else ():
            for kind, entry in row.items():
                to = entry.to if isinstance(entry, Move) else State.FAILED
                way = (state.name, kind.value, to.name, _action(entry))
                found.setdefault(way, []).append(negotiation)
    return found


def _action(entry: Move | type[LondError]) -> str:
    if not isinstance(entry, Move):
        return entry.__name__
    action = WORDS.get(entry.send, entry.send.value.decode().rstrip("\n"))
    return f"{action}, go on as insecure" if entry.keep is Keep.NO_SSL else action


def diagrams() -> dict[str, str]:
    """Return all diagrams by their names."""
    return {"host": host()} | {f"handshake {each}": handshake(each) for each in FIRST}


def insert(page: str) -> str:
    """Return the page with all diagrams in their places. Raises KeyError for an unknown name."""
    made = diagrams()
    return PLACE.sub(lambda place: f"{place[1]}{made[place[2]]}{place[3]}", page)


def main(arguments: list[str]) -> int:
    """Print the diagrams, or write them into the page."""
    if arguments == ["--write"]:
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    if arguments:
        print("usage: scripts/state-diagrams [--write]", file=sys.stderr)
        return 2
    for name, text in diagrams().items():
        print(f"{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
