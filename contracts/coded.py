"""A column as codes into a list of names: what repeats in every row is kept, and sent, once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

Name = TypeVar("Name")


class Compact(Sequence[Name], Generic[Name]):
    """A column that is held in a form of its own. Rows are taken, and columns joined, in that form."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @abstractmethod
    def take(self, at: npt.NDArray[Any]) -> Compact[Name]:
        """These rows."""

    @classmethod
    @abstractmethod
    def concat(cls, columns: Sequence[Any]) -> Compact[Name]:
        """One after the other; all are of this class."""


class Coded(Compact[Name]):
    """`names[codes[i]]` is row i. Names may repeat, and some may be unused."""

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
    def __getitem__(self, at: slice) -> Coded[Name]: ...
    def __getitem__(self, at: int | slice) -> Name | Coded[Name]:
        return Coded(self.names, self.codes[at]) if isinstance(at, slice) else self.names[self.codes[at]]

    def take(self, at: npt.NDArray[Any]) -> Coded[Name]:
        """These rows, and only the names that they use."""
        codes = self.codes[at]
        used = np.zeros(len(self.names), np.bool_)
        used[codes] = True
        return Coded([self.names[i] for i in np.flatnonzero(used).tolist()], (np.cumsum(used) - 1)[codes])

    @classmethod
    def constant(cls, name: Name, n: int) -> Coded[Name]:
        return cls((name,), np.zeros(n, np.int64))

    @classmethod
    def of(cls, values: Sequence[Name]) -> Coded[Name]:
        """A plain column, its names in order of appearance; one that is coded already stays as it is."""
        if isinstance(values, Coded):
            return values
        seen: dict[Name, int] = {}
        codes = np.fromiter((seen.setdefault(v, len(seen)) for v in values), np.int64, len(values))
        return cls(list(seen), codes)

    @classmethod
    def pairs(cls, first: Coded[Any], second: Coded[Any]) -> Coded[tuple[Any, Any]]:
        """Two columns as one of pairs, each pair once."""
        n = max(len(second.names), 1)
        found, codes = np.unique(first.codes * n + second.codes, return_inverse=True)
        names = [(first.names[pair // n], second.names[pair % n]) for pair in found.tolist()]
        return Coded(names, codes)

    @classmethod
    def concat(cls, columns: Sequence[Coded[Name]]) -> Coded[Name]:
        """One after the other, each name once."""
        seen: dict[Name, int] = {}
        codes = [
            np.array([seen.setdefault(name, len(seen)) for name in c.names] or [0], np.int64)[c.codes] for c in columns
        ]
        return cls(list(seen), np.concatenate(codes) if codes else np.zeros(0, np.int64))
