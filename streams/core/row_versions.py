"""Versions of stored rows: of rows with the same key, the one with the greatest version wins.

A version is deterministic. It says how much of the log the row includes, never the time:

    provisional < final of an earlier owner < final of a later owner < its restatements

A partition's owner takes a new, greater `epoch` with each assignment. So whatever a worker that lost the partition
still writes can never replace a row of its successor.
"""

from __future__ import annotations

_FINAL = 1 << 62
_EPOCH_BITS, _REVISION_BITS = 34, 28


def provisional(progress: int) -> int:
    """Return the version of a provisional row. `progress`: offsets of the partition that were read, of both topics."""
    if not 0 <= progress < _FINAL:
        raise OverflowError(f"progress {progress} does not fit a version")
    return progress


def final(epoch: int, revision: int) -> int:
    """Return the version of a final row.

    `revision` counts the late messages that restated the window (for checkpoints: those written in this epoch).
    """
    if not (0 <= epoch < 1 << _EPOCH_BITS and 0 <= revision < 1 << _REVISION_BITS):
        raise OverflowError(f"epoch {epoch} or revision {revision} does not fit a version")
    return _FINAL + (epoch << _REVISION_BITS) + revision
