"""Labels of single requests (ids, status, times), as one block of bytes per column instead of an object per text.

They are copied into the block while the decoded message is still in the processor's cache. Visiting a hundred thousand
scattered Python objects later would cost more than all arithmetic on requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.columns import I64
from contracts.dictionary_column import CompactColumn, DictionaryColumn
from contracts.events import LABELS
from contracts.joined_batches import TokenColumns


class TextColumn(CompactColumn[str]):
    """A column of texts that are assumed to be all different: an Arrow string array."""

    __slots__ = ("_array",)

    def __init__(self, array: pa.StringArray) -> None:
        self._array = array

    @classmethod
    def of(cls, values: Sequence[str]) -> Self:
        return cls(pa.array(values, pa.string()))

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._array.to_pylist())

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> TextColumn: ...
    def __getitem__(self, at: int | slice) -> str | TextColumn:
        return TextColumn(self._array[at]) if isinstance(at, slice) else self._array[int(at)].as_py()

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        """Return the Arrow array: `pyarrow.array` calls this."""
        return self._array

    def take(self, at: npt.NDArray[Any]) -> TextColumn:
        return TextColumn(self._array.take(pa.array(at)))

    @classmethod
    def concat(cls, columns: Sequence[CompactColumn[str]]) -> Self:
        return cls(pa.concat_arrays([pa.array(c, pa.string()) for c in columns]))


@dataclass(slots=True)
class RequestLabels:
    """Ids, times and status of requests, by row of a `TokenColumns`. Times are epoch milliseconds."""

    request_id: TextColumn
    id_hash: I64
    """Ids whose hashes differ are different ids."""
    texts: Mapping[str, TextColumn | None]
    """Columns of `contracts.events.LABELS` by name; None if no batch has any text of it."""
    status: DictionaryColumn[str]
    begin_ms: I64
    end_ms: I64

    @classmethod
    def of(cls, c: TokenColumns) -> Self:
        texts = {name: None if (column := c.texts(name)) is None else TextColumn.of(column) for name in LABELS}
        statuses = list(chain.from_iterable(b.statuses for b in c.batches))
        status = DictionaryColumn.concat(
            [DictionaryColumn(statuses, c.place([len(b.statuses) for b in c.batches], c.status))]
        )
        id_hash = np.fromiter(map(hash, c.request_id), np.int64, len(c.request_id))
        return cls(TextColumn.of(c.request_id), id_hash, texts, status, c.begin_ms, c.end_ms)
