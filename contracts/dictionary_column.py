"""Dictionary-encoded columns: a list of names, and a code per row that indexes it. A repeated name is kept once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

Name = TypeVar("Name")


class CompactColumn(Sequence[Name], Generic[Name]):
    """Column in a compact form of its own. Taking rows and joining columns keep that form."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @abstractmethod
    def take(self, at: npt.NDArray[Any]) -> CompactColumn[Name]:
        """Return the rows at these positions."""

    @classmethod
    @abstractmethod
    def concat(cls, columns: Sequence[Any]) -> CompactColumn[Name]:
        """Return columns of this class, joined end to end."""


class DictionaryColumn(CompactColumn[Name]):
    """Column whose row i is `names[codes[i]]`. Names may repeat, and some may be unused."""

    __slots__ = ("codes", "names")

    def __init__(self, names: Sequence[Name], codes: npt.NDArray[Any]) -> None:
        self.names, self.codes = names, codes

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Name]:
        return map(self.names.__getitem__, self.codes.tolist())

    @overload
    def __getitem__(self, at: int) -> Name: ...
    @overload
    def __getitem__(self, at: slice) -> DictionaryColumn[Name]: ...
    def __getitem__(self, at: int | slice) -> Name | DictionaryColumn[Name]:
        return DictionaryColumn(self.names, self.codes[at]) if isinstance(at, slice) else self.names[self.codes[at]]

    def take(self, at: npt.NDArray[Any]) -> DictionaryColumn[Name]:
        """Return the rows at these positions, with only the names that they use."""
        codes = self.codes[at]
        used = np.zeros(len(self.names), np.bool_)
        used[codes] = True
        return DictionaryColumn([self.names[i] for i in np.flatnonzero(used).tolist()], (np.cumsum(used) - 1)[codes])

    @classmethod
    def constant(cls, name: Name, n: int) -> DictionaryColumn[Name]:
        """Return a column of n equal rows."""
        return cls((name,), np.zeros(n, np.int64))

    @classmethod
    def of(cls, values: Sequence[Name]) -> DictionaryColumn[Name]:
        """Encode a plain column, its names in order of appearance. Return an encoded one as it is."""
        if isinstance(values, DictionaryColumn):
            return values
        seen: dict[Name, int] = {}
        codes = np.fromiter((seen.setdefault(v, len(seen)) for v in values), np.int64, len(values))
        return cls(list(seen), codes)

    @classmethod
    def pairs(cls, first: DictionaryColumn[Any], second: DictionaryColumn[Any]) -> DictionaryColumn[tuple[Any, Any]]:
        """Return two columns as one column of pairs, each pair once among its names."""
        n = max(len(second.names), 1)
        pairs, codes = np.unique(first.codes * n + second.codes, return_inverse=True)
        names = [(first.names[pair // n], second.names[pair % n]) for pair in pairs.tolist()]
        return DictionaryColumn(names, codes)

    @classmethod
    def concat(cls, columns: Sequence[DictionaryColumn[Name]]) -> DictionaryColumn[Name]:
        """Return columns joined end to end, each name once."""
        seen: dict[Name, int] = {}
        codes = [
            np.array([seen.setdefault(name, len(seen)) for name in c.names] or [0], np.int64)[c.codes] for c in columns
        ]
        return cls(list(seen), np.concatenate(codes) if codes else np.zeros(0, np.int64))
