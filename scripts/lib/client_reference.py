# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference of the client library, docs/reference/client.md, made from its docstrings."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lonc_gevent import client

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "client.md"
WIDTH: Final = 96

HEAD = """# Reference of the Python client

Made from the docstrings by `scripts/client-reference --write`. Every name is in
`lonc_gevent.client`; `lonc_gevent.client.aio` has the same names for asyncio, where methods and
functions that send are awaited. [Sending requests](../guide/web-processes.md) is the introduction.
"""
GROUPS = {
    "Clients": ["Client", "AsyncClient", "Host", "Connection", "Sockets"],
    "Functions of a default client": ["reply", "many", "critical"],
    "Requests and values": [
        *("command", "parse_list", "parse_pairs", "raise_for_error", "freeze", "thaw"),
        *("escape", "unescape", "pack", "unpack", "unpack_list", "delay"),
    ],
}


class Written(str):
    """A type as it is written in the code, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(name: str, value: Any) -> str:
    """Return how a class or function is called, with a line for each parameter if it is long."""
    found = inspect.signature(value)
    parameters = [
        p.replace(annotation=Written(p.annotation)) if isinstance(p.annotation, str) else p
        for p in found.parameters.values()
        if p.name != "self"
    ]
    returned = "" if inspect.isclass(value) else f" -> {found.return_annotation}"
    text = f"{name}({', '.join(parts(parameters))}){returned}"
    if len(text) <= WIDTH:
        return text
    return "\n".join((f"{name}(", *(f"    {part}," for part in parts(parameters)), f"){returned}"))


def parts(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Return the text of each parameter, with the `*` before those that are named."""
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield str(parameter)


def entry(name: str, value: Any, level: str) -> Iterator[str]:
    """Return the heading and the text of a class, a method or a function."""
    doc = inspect.getdoc(value) or ""
    yield f"{level} {name}\n"
    yield f"```text\n{signature(name, value)}\n\n{doc}\n```\n"


def reference() -> str:
    """Return the page."""
    page = [HEAD]
    for title, names in GROUPS.items():
        page.append(f"## {title}\n")
        for name in names:
            value = getattr(client, name)
            if name in ("reply", "many", "critical"):
                page.append(f"`{name}(...)` is `Client.{name}` with a connection of its own.\n")
                continue
            page += entry(name, value, "###")
            if inspect.isclass(value):
                for method, member in sorted(inspect.getmembers(value)):
                    if method.startswith("_") or name not in ("Client", "Host", "Sockets"):
                        continue
                    if isinstance(member, property):
                        text = f"#### {name}.{method}\n\n```text\n{inspect.getdoc(member)}\n```\n"
                        page.append(text)
                    elif inspect.isroutine(member):
                        page += entry(f"{name}.{method}", member, "####")
    page.append("## Errors\n")
    module = inspect.getdoc(inspect.getmodule(client.ClientError)) or ""
    page.append(f"```text\n{module}\n```\n")
    page.append(f"`ClientError`:\n\n```text\n{inspect.getdoc(client.ClientError)}\n```\n")
    return "\n".join(page)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
