# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure modules: no I/O, no clock, no random numbers, no gevent, in them or in what they import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lonc_gevent

PACKAGE = Path(lonc_gevent.__file__).parent

PURE = [
    "admin.history",
    "admin.status",
    "admin.verdict",
    "backend.retry_gate",
    "backend.stats",
    "configuration.certificates",
    "configuration.check",
    "configuration.cross_checks",
    "configuration.host_changes",
    "configuration.hosts_tab",
    "configuration.loncapa_conf",
    "configuration.loncapa_values",
    "configuration.names",
    "configuration.problems",
    "configuration.settings",
    "configuration.shard",
    "configuration.tables",
    "delayed.reasons",
    "delayed.requests",
    "delayed.seal",
    "doctor.diagnosis",
    "logs.ecs",
    "logs.throttle",
    "printable",
    "protocol.cipher",
    "protocol.handshake",
    "protocol.handshake_tables",
    "protocol.lines",
    "protocol.tls_records",
]

IMPURE = {
    "datetime",
    "gevent",
    "greenlet",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}


def imports(name: str) -> set[str]:
    """Return what a module imports when it runs, as dotted names; type-only imports left out."""
    here = ["lonc_gevent", *name.split(".")]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text()))
    return found


@pytest.mark.parametrize("name", PURE)
def test_pure_module_imports_only_pure_modules(name: str) -> None:
    """A pure module imports nothing that does I/O, and of this package only pure modules."""
    allowed = {"errors", *PURE}
    for imported in imports(name):
        assert imported.split(".")[0] not in IMPURE, f"{name} imports {imported}"
        if imported.startswith("lonc_gevent."):
            ours = imported.removeprefix("lonc_gevent.")
            assert ours in allowed or ours.rpartition(".")[0] in allowed, f"{name} imports {ours}"
