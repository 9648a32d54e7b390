"""Labels of single requests, as blocks of bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from contracts.dictionary_column import DictionaryColumn
from contracts.rows import SOURCES, concat, conform
from streams.core.request_labels import TextColumn

IDS = ["r-1", "", "größer", "r-1"]


def test_labels_behave_as_the_original_sequence() -> None:
    texts = TextColumn.of(IDS)
    assert (list(texts), len(texts), texts[2], list(texts[1:3])) == (IDS, 4, "größer", ["", "größer"])
    assert texts == IDS


def test_rows_are_selected_in_any_order_and_repeatedly() -> None:
    assert list(TextColumn.of(IDS).take(np.array([2, 0, 2]))) == ["größer", "r-1", "größer"]
    assert list(TextColumn.of(IDS).take(np.zeros(0, np.intp))) == []


def test_columns_are_joined_in_their_order() -> None:
    assert list(TextColumn.concat([TextColumn.of(IDS), TextColumn.of([]), TextColumn.of(["x"])])) == [*IDS, "x"]


def test_arrow_accepts_labels_without_conversion() -> None:
    assert pa.array(TextColumn.of(IDS), pa.string()).equals(pa.array(IDS))


@pytest.mark.parametrize(
    "other", [["x"], DictionaryColumn.of(["x"]), TextColumn.of(["x"])], ids=["listed", "coded", "the same"]
)
def test_labels_of_all_kinds_of_texts_are_joined(other) -> None:
    columns = dict.fromkeys((name for name, kind in SOURCES.items() if kind != "text"), 0)
    first, second = (
        conform(
            "sources", {**columns, "log_id": "log", "topic": DictionaryColumn.constant("t", len(ids)), "source": ids}
        )
        for ids in (TextColumn.of(IDS), other)
    )
    assert list(concat("sources", [first, second])["source"]) == [*IDS, "x"]
