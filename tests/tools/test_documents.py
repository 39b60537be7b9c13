# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents: their links, the files that they name, and what the code cites of them."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from lonc_gevent.admin.metrics import FAMILIES, _DaemonCollector
from lonc_gevent.backend.lond_connection import LondConnection
from lonc_gevent.delayed.reasons import ADVICE
from lonc_gevent.errors import NotSentError, ReplyLostError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

import state_diagrams

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("config", "docs", "lonc_gevent", "scripts", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))])
PROTOCOL = ROOT / "docs" / "reference" / "protocol.md"
METRICS = ROOT / "docs" / "reference" / "metrics.md"

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
PATH = re.compile(r"`((?:config|docs|lonc_gevent|scripts|tests)/[\w./-]+)")
CITATION = re.compile(r"protocol\.md,\s+(?:#\s+)?(?:sections?\s+)?(\d+[a-f]?)\b")


def text_of(document: Path) -> str:
    """Return the text of a document without its blocks of code."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, made as GitHub and GitLab make them."""
    found: set[str] = set()
    for heading in HEADING.findall(text_of(document)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(bool(re.fullmatch(rf"{re.escape(words)}(-\d+)?", other)) for other in found)
        found.add(f"{words}-{count}" if count else words)
    return found


def broken_links(document: Path) -> list[str]:
    """Return the relative links of a document that lead to no file or no heading."""
    broken = []
    for link in LINK.findall(text_of(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    """Each relative link leads to a file of the repository, its anchor to a heading of it."""
    assert broken_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_code_spans_exist(document: Path) -> None:
    """A path such as `scripts/test` in the text is that of a file or folder."""
    paths = [path.rstrip(".") for path in PATH.findall(text_of(document))]

    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_named_in_code_spans_exist(document: Path) -> None:
    """A name such as `test_silence*` in the text is that of a test, or the beginning of one."""
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    names = re.findall(r"`(test_\w+)\*?`", text_of(document))

    assert [name for name in names if not any(f"def {name}" in text for text in tests)] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """The check itself: it finds a missing file and a missing heading, and no other."""
    good = tmp_path / "good.md"
    good.write_text("# Two words\n\n# Two words\n", encoding="utf-8")
    document = tmp_path / "document.md"
    links = [
        "good.md",
        "good.md#two-words-1",
        "#here",
        "https://example.org/",
        "no.md",
        "good.md#no",
    ]
    document.write_text("# Here\n" + "".join(f"[a]({link})\n" for link in links), encoding="utf-8")

    assert broken_links(document) == ["no.md", "good.md#no"]


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    """A reader who follows links from README.md finds every document in docs/."""
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        links = (link.partition("#")[0] for link in LINK.findall(text_of(document)))
        targets = [(document.parent / link).resolve() for link in links if ":" not in link]
        ahead += [target for target in targets if target.is_file()]

    assert {path for path in DOCUMENTS if ROOT / "docs" in path.parents} <= reached


def test_readme_is_short() -> None:
    """README.md has at most 120 lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_cited_sections_of_the_protocol_exist() -> None:
    """A citation such as `protocol.md, section 3a` names a section of that document."""
    sections = set(
        re.findall(r"^#+ (\d[a-f]?)\b", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE)
    )
    cited = {
        section: path
        for folder in ("lonc_gevent", "scripts", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for section in CITATION.findall(path.read_text(encoding="utf-8"))
    }

    assert {section: path for section, path in cited.items() if section not in sections} == {}
    assert cited


def test_metrics_are_those_of_the_code() -> None:
    """docs/reference/metrics.md names each metric of the code with its type, and no other."""
    reporter = MagicMock(shard="1/2", pools={})
    reporter.vitals.delayed.return_value = ("", 0)
    reporter.history.started = 0.0
    families = [*_DaemonCollector(reporter).collect(), *(family(()) for family in FAMILIES)]
    in_code = {(family.name, family.type) for family in families}
    rows = re.findall(
        r"^\| `(lonc_\w+)` \| (\w+) \|", METRICS.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert {(name.removesuffix("_total"), kind) for name, kind in rows} == in_code


def test_metrics_of_the_contract_are_marked_as_fixed() -> None:
    """The metrics marked as fixed in docs/reference/metrics.md are those of the contract."""
    rows = METRICS.read_text(encoding="utf-8")
    fixed = set(re.findall(r"^\| `(lonc_\w+)` \|[^|]*\|[^|]*\| yes \|", rows, re.MULTILINE))
    contract = METRICS.with_name("contract.md").read_text(encoding="utf-8")

    assert fixed == set(re.findall(r"`(lonc_\w+)", contract.partition("## Metrics")[2]))


def test_state_diagrams_are_those_of_the_tables() -> None:
    """docs/architecture.md has the diagrams that scripts/state-diagrams prints, and all of them."""
    page = state_diagrams.PAGE.read_text(encoding="utf-8")
    names = re.findall(r"^<!-- diagram: (.+) -->$", page, re.MULTILINE)

    assert state_diagrams.insert(page) == page, "run scripts/state-diagrams --write"
    assert sorted(names) == sorted(state_diagrams.diagrams())


def test_contract_has_every_key_with_its_default() -> None:
    """The TOML block of docs/reference/contract.md has the keys and values of config/lonc.toml."""
    contract = (ROOT / "docs" / "reference" / "contract.md").read_text(encoding="utf-8")
    documented = tomllib.loads(contract.partition("```toml\n")[2].partition("```")[0])
    del documented["hosts"]

    assert documented == tomllib.loads((ROOT / "config" / "lonc.toml").read_text(encoding="utf-8"))


def test_packages_are_those_of_the_import_contract() -> None:
    """The packages in docs/architecture.md are import-linter's layers, in their order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    page = state_diagrams.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (`[^|]+`) \|", page, re.MULTILINE)
    level = {
        name.removesuffix("/").removesuffix(".py"): int(number)
        for number, names in rows
        for name in re.findall(r"`([\w./]+)`", names)
    }
    levels = [{level.pop(name) for name in layer.split(" | ")} for layer in layers]

    assert level == {}
    assert all(len(each) == 1 for each in levels), "one level for each layer"
    assert levels == sorted(levels, key=max, reverse=True)


def test_connection_diagram_has_the_states_of_the_code() -> None:
    """The diagram of a lond connection has the states that `LondConnection.state` returns."""
    page = state_diagrams.PAGE.read_text(encoding="utf-8")
    section = page.partition("## States of a lond connection")[2].partition("\n## ")[0]
    nodes = set(re.findall(r"^    (\w+)", section, re.MULTILINE)) - {"start"}
    source = inspect.getsource(LondConnection).partition("def state(")[2].partition("def ")[0]

    assert nodes == set(re.findall(r'"(\w+)"', source))


def test_delayed_reasons_are_those_of_the_code() -> None:
    """docs/guide/delayed-requests.md has the table of `delayed show`."""
    page = (ROOT / "docs/guide/delayed-requests.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)

    assert rows == [(word, advice.why, advice.action) for word, advice in ADVICE.items()]


def test_error_words_are_those_of_the_code() -> None:
    """docs/reference/log-events.md explains the `kind` of each error of a lond connection."""
    page = (ROOT / "docs/reference/log-events.md").read_text(encoding="utf-8")
    section = page.partition("#### Error words")[2].partition("### ")[0]

    words = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    leaves = [*NotSentError.__subclasses__(), *ReplyLostError.__subclasses__()]
    assert words == sorted(error.kind for error in leaves)
