"""What came lately, so that what comes again counts once: a retry of a batch that had arrived, a span told twice.

On the log a double is known by its event (source, epoch, number), not by its request: two events that bring the same
request count it twice. So whoever reads from something that sends again keeps the last `most` names that it took, with
its mark, in the same transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

MOST = 32_768
"""Names kept, unless told otherwise: 256 KiB. At 100 requests a second those of five minutes."""
_BYTES = 8


class Recent:
    """The last `most` names, oldest first, as 64 bits of a hash each: two names that share them would be taken for
    one, about once in 10^14 requests."""

    def __init__(self, kept: bytes = b"", most: int = MOST) -> None:
        found = np.frombuffer(kept[: len(kept) // _BYTES * _BYTES], "<u8").tolist()
        self._order: deque[int] = deque(found[-most:])
        self._known = set(self._order)
        self._most = most

    def __len__(self) -> int:
        return len(self._order)

    def has(self, name: str) -> bool:
        return _hash(name) in self._known

    def add(self, names: Iterable[str]) -> None:
        """These came now; the oldest are forgotten for them."""
        for name in names:
            number = _hash(name)
            if number in self._known:
                continue
            self._known.add(number)
            self._order.append(number)
            if len(self._order) > self._most:
                self._known.discard(self._order.popleft())

    def new(self, name: str) -> bool:
        """Whether this did not come before; from now on it did."""
        if self.has(name):
            return False
        self.add((name,))
        return True

    def dump(self) -> bytes:
        """For a mark; `Recent(dump)` knows the same."""
        return np.array(self._order, "<u8").tobytes()


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "little")
