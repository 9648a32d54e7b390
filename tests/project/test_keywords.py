"""Rows, batches and other records with many fields are built by keyword."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from contracts.events import PowerBatch, TokenBatch, UsageBatch
from contracts.joined_batches import PowerColumns, TokenColumns
from tests.project.tree import texts

MAX_POSITIONAL = 6


def records_by_position(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, class) of each call of a class with more than MAX_POSITIONAL arguments by position."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > MAX_POSITIONAL)
    named = ((call.lineno, ast.unparse(call.func).rpartition(".")[2]) for call in calls)
    return [(line, name) for line, name in named if name == "cls" or name.lstrip("_")[:1].isupper()]


def test_no_record_gets_many_fields_by_position() -> None:
    calls: list[tuple[Path, int, str]] = [
        (file, line, name) for file, text in texts(".py").items() for line, name in records_by_position(ast.parse(text))
    ]
    assert not calls


@pytest.mark.parametrize("record", [PowerBatch, TokenBatch, UsageBatch, PowerColumns, TokenColumns])
def test_batches_take_keywords_only(record: type) -> None:
    with pytest.raises(TypeError, match="positional"):
        record("n")
