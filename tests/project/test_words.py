"""Names are nouns and verbs with one meaning each, docstrings are plain sentences (CONTRIBUTING.md, House rules)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.project.tree import ROOT

ROOMS = (
    "contracts", "access", "billing", "producers", "streams",
    "warehouse", "forecasting", "api", "cli", "bench", "tests",
)  # fmt: skip

BANNED_NAMES = frozenset(
    re.findall(
        r"\w+",
        """
        found told said asked heard taken made stood stands given shown wanted lacking done looked looks look news most
        odd oddities thing things whole works them each what whose who rest everything everybody somebody something
        """,
    )
)
"""Participles, pronouns and words with many meanings. Each says nothing of what a value is."""

BANNED_IN_TESTS = BANNED_NAMES | {"kept", "says", "say", "tell", "tells", "keeper"}
"""Names that tests do not give either."""

OLD_WORDS = re.compile(
    r"(?<![a-z])(told|tells?|said|heard|keeper|doors?|holes?|odd|things?|looks|mends?|mended|anew"
    r"|nobodys?|somebody|anybody|everybody|whoever|whatever)(?![a-z])"
)
"""Words that no function or class of the tests has in its name: the glossary has terms, and English verbs, for each."""

RIDDLES = re.compile(r"test_(what|who|whose|where|whether|it|its|of|how|why)_")
"""Beginnings of a test's name that hide its subject."""

BANNED_MODULES = frozenset(
    re.findall(
        r"\w+",
        """
        holding asking books most oddities outlook recent looks forget refused memo present feed scopes shells texts
        holes joiner intake rounds utils helpers misc
        """,
    )
)

NAMES_OF_OTHERS = {
    ("producers/gateways/litellm/callback.py", "done"): "asyncio's name",
}
"""(file, name): why a banned name stays."""

SAME_NAME_TWICE: dict[str, str] = {}
"""Public class names that live in two modules, with the reason."""

OPENINGS = re.compile(r"(What|Which|Who|Whose|How|Where|Whether|When|Why|See the|As|The same|Of|And|Else|From|Up to)\b")
"""A docstring says first what a thing is or does. These words begin a riddle."""

ODD_WORDING = re.compile(r"\b(See the module|told|nobody|whoever|of late|by itself)\b")
MOST_WORDS = 38
"""Words in one sentence of a docstring. A longer one is two."""


_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@cache
def _modules() -> dict[Path, ast.Module]:
    """The parsed modules of every room, by path from the repository's root."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT): ast.parse(path.read_text("utf-8")) for path in files}


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that a module gives: parameters, variables, fields, functions and classes, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def _docstrings() -> Iterator[tuple[str, str]]:
    """(place, text) of every docstring."""
    for path, tree in _modules().items():
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            if text:
                yield f"{path}:{getattr(node, 'lineno', 1)}", text


def _sentences(text: str) -> list[str]:
    """The sentences of a text, without its tables and trees."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "├", "└"))]
    text = "\n".join(line for line in lines if not line.startswith("    "))
    return re.split(r"(?<=[.!?:;])\s+(?=[A-Z`(])|\n\n", text)


@pytest.mark.parametrize("room", ROOMS)
def test_no_name_is_a_participle_or_a_pronoun(room: str) -> None:
    banned = BANNED_IN_TESTS if room == "tests" else BANNED_NAMES
    assert not [
        f"{path}:{line}: {name}"
        for path, tree in _modules().items()
        if path.parts[0] == room
        for name, line in _names(tree)
        if name.strip("_").lower() in banned and (str(path), name) not in NAMES_OF_OTHERS
    ]


def test_a_test_is_named_for_its_behaviour() -> None:
    definitions = [
        (f"{path}:{node.lineno}", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower())
        for path, tree in _modules().items()
        if path.parts[0] == "tests"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not [f"{place}: {name}" for place, name in definitions if OLD_WORDS.search(name) or RIDDLES.match(name)]


def test_modules_are_named_for_their_contents() -> None:
    assert not [str(path) for path in _modules() if path.stem in BANNED_MODULES]


def test_a_public_class_name_has_one_meaning() -> None:
    places = defaultdict(set)
    for path, tree in _modules().items():
        if path.parts[0] not in ("bench", "tests"):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add(str(path))
    twice = {name: sorted(files) for name, files in places.items() if len(files) > 1 and name not in SAME_NAME_TWICE}
    assert not twice


def test_a_docstring_begins_with_a_noun_or_a_verb() -> None:
    assert not [f"{place}: {text[:60]}" for place, text in _docstrings() if OPENINGS.match(text)]


def test_docstrings_have_no_riddles() -> None:
    assert not [f"{place}: {match[0]}" for place, text in _docstrings() if (match := ODD_WORDING.search(text))]


def test_sentences_of_docstrings_are_short() -> None:
    assert not [
        f"{place}: {len(sentence.split())} words: {sentence[:60]}"
        for place, text in _docstrings()
        for sentence in _sentences(text)
        if len(sentence.split()) > MOST_WORDS
    ]


def test_the_glossary_gives_at_most_50_terms_one_meaning_each() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.M)
    terms = [term.strip() for head, _ in rows[2:] for term in head.split(",")]
    assert len(rows) - 2 <= 50
    assert len(set(terms)) == len(terms)
    assert [head for head, _ in rows[2:]] == sorted((head for head, _ in rows[2:]), key=str.lower)
