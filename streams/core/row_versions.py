"""Which row wins. A row's `version` is deterministic: it says how much of the log the row has seen, never the time.

    provisional < final of an earlier ownership < final of a later one < its restatements

A partition's owner takes a new, greater `epoch` when the partition is assigned to it, so what a worker that lost the
partition still writes can never replace what its successor wrote.
"""

from __future__ import annotations

_FINAL = 1 << 62
_EPOCH_BITS, _REVISION_BITS = 34, 28


def provisional(progress: int) -> int:
    """`progress`: messages of the partition that were read, both topics together."""
    if not 0 <= progress < _FINAL:
        raise OverflowError(f"progress {progress} does not fit a version")
    return progress


def final(epoch: int, revision: int) -> int:
    """`revision`: how many late messages restated the window (for marks: how many this epoch wrote)."""
    if not (0 <= epoch < 1 << _EPOCH_BITS and 0 <= revision < 1 << _REVISION_BITS):
        raise OverflowError(f"epoch {epoch} or revision {revision} does not fit a version")
    return _FINAL + (epoch << _REVISION_BITS) + revision
