# SPDX-License-Identifier: GPL-2.0-or-later
"""The house: a room imports only from lower floors, and a rule only from rules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lonc_gevent

PACKAGE = Path(lonc_gevent.__file__).parent

FLOORS = [
    {"errors", "rules"},
    {"logs"},
    {
        "participants",
        "hangups",
        "turns",
        "stream",
        "listeners",
        "configuration",
        "permissions",
        "watchdog",
    },
    {"lock", "notify", "control", "handover", "restart"},
    {"transaction", "peers", "tls", "localkey", "dial", "expiry", "client"},
    {"session"},
    {"lond", "standin"},
    {"connection", "doctor"},
    {"pool"},
    {"conversation", "report"},
    {"clients", "keeper", "delayed"},
    {"hosts", "drain", "orders"},
    {"admin"},
    {"daemon"},
    {"commands", "cli", "__main__"},
]
"""From the rules up to the edge. Rooms of one floor may use each other, without a cycle."""

IMPURE = {
    "gevent",
    "greenlet",
    "socket",
    "select",
    "ssl",
    "time",
    "datetime",
    "random",
    "secrets",
    "os",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "subprocess",
    "signal",
    "threading",
    "logging",
    "structlog",
}
"""What a rule may not know: sockets, clocks, random numbers, files, logs."""


def modules() -> dict[str, Path]:
    """Return all modules of the package by dotted name, below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def imports(name: str, path: Path) -> set[str]:
    """Return what a module imports when it runs, as dotted names; ours begin with a dot."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            here = ["lonc_gevent", *name.split(".")]
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return {
        f".{n.removeprefix('lonc_gevent.')}" if n.startswith("lonc_gevent.") else n for n in found
    }


def room(name: str) -> str:
    """Return the room that a module belongs to."""
    return name.split(".", maxsplit=1)[0]


def floor(name: str) -> int:
    """Return the floor of a room."""
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise AssertionError(f"{name} is on no floor: give it one in tests/test_rooms.py")


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down(name: str) -> None:
    """A room imports only from its own floor and from lower ones."""
    for imported in imports(name, modules()[name]):
        other = room(imported[1:])
        if imported.startswith(".") and other != "__version__":
            assert floor(other) <= floor(room(name)), f"{name} imports {other}"


def test_imports_have_no_cycle() -> None:
    """No module imports itself by way of others."""
    known = modules()
    graph = {
        name: {
            target
            for imported in imports(name, path)
            for target in (imported[1:], imported[1:].rpartition(".")[0])
            if imported.startswith(".") and target in known and target != name
        }
        for name, path in known.items()
    }
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for target in graph[name]:
                walk(target, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("name", sorted(n for n in modules() if room(n) == "rules"))
def test_rules_are_pure(name: str) -> None:
    """A rule is given bytes and numbers: it imports no gevent, socket, clock, file or log."""
    for imported in imports(name, modules()[name]):
        assert imported.split(".")[0] not in IMPURE, f"{name} imports {imported}"
