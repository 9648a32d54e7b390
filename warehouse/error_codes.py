"""Kinds of refused writes, from ClickHouse's error codes: a word for /metrics, and what to do.

A refused write is not lost: its messages stay on the log, and the worker retries. Temporary refusals, and those that
end when an operator frees a resource on the server, are retried for as long as it takes. Retrying hardly helps
`lasting` ones: the worker may stop, and resumes where it stopped when it is restarted.
"""

from __future__ import annotations

from typing import NamedTuple

NOT_MIGRATED = frozenset({60, 81})
"""UNKNOWN_TABLE, UNKNOWN_DATABASE."""
NOT_ALLOWED = frozenset({192, 193, 194, 497, 516})
"""UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED."""
TOO_MUCH = frozenset({158, 159, 160, 241, 307, 396})
"""Errors of a question that reads too much: TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED,
TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES."""

CHANGED = 395
"""FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: of a question, that what it was put together by has changed."""


class Refusal(NamedTuple):
    """A kind of refusal."""

    reason: str
    """One word for /metrics, of a dozen."""
    hint: str
    """What to do."""
    lasting: bool = False


AWAY = Refusal("away", "Check that it runs and that the address is right.")
"""No answer of the server: connection refused or reset, a proxy's 502, a timeout."""
DISK_FULL = Refusal("disk_full", "Free space on the server's disk, or give it more.")
MISMATCH = Refusal("mismatch", "Tables and worker are of different versions: run `wattlog migrate`, or upgrade.", True)
NO_TABLE = Refusal("no_table", "Run `wattlog migrate`.", True)
NO_ACCESS = Refusal("no_access", "Check the user in the DSN, WATTLOG_WAREHOUSE_PASSWORD and its grants.", True)
CHANGED_MEANWHILE = Refusal("changed", "Ask again.")
UNKNOWN = Refusal("other", "Look the code up in ClickHouse's log; if it persists, report it.", True)

_KINDS: tuple[tuple[Refusal, frozenset[int]], ...] = (
    (NO_TABLE, NOT_MIGRATED),
    (NO_ACCESS, NOT_ALLOWED | {164}),  # READONLY
    (DISK_FULL, frozenset({243})),  # NOT_ENOUGH_SPACE
    (Refusal("too_many_parts", "Merges are behind: let them catch up; check the disk's speed."), frozenset({252})),
    (
        Refusal("memory", "Give the server more memory, or its other queries less."),
        frozenset({173, 241}),  # CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED
    ),
    # TIMEOUT_EXCEEDED, TOO_SLOW, SOCKET_TIMEOUT, QUERY_WAS_CANCELLED
    (Refusal("timeout", "The server is slow: look at its load."), frozenset({159, 160, 209, 394})),
    (
        Refusal("busy", "Give this user more of the server, or the server less to do."),
        # QUOTA_EXCEEDED, TOO_MANY_SIMULTANEOUS_QUERIES, NO_FREE_CONNECTION, CANNOT_SCHEDULE_TASK,
        # USER_SESSION_LIMIT_EXCEEDED, SERVER_OVERLOADED
        frozenset({201, 202, 203, 439, 700, 745}),
    ),
    # TABLE_IS_READ_ONLY: of a replica that lost its Keeper, or by its setting; TABLE_IS_BEING_RESTARTED
    (Refusal("read_only", "The table takes no writes: check Keeper and the replicas."), frozenset({242, 733})),
    (
        Refusal("replicas", "Check Keeper and the replicas."),
        # NO_ZOOKEEPER, UNEXPECTED_ZOOKEEPER_ERROR, TOO_FEW_LIVE_REPLICAS, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE,
        # REPLICA_IS_NOT_IN_QUORUM, UNKNOWN_STATUS_OF_INSERT, KEEPER_EXCEPTION
        frozenset({225, 244, 285, 286, 289, 319, 999}),
    ),
    # CANNOT_READ_FROM_FILE_DESCRIPTOR, CANNOT_WRITE_TO_FILE_DESCRIPTOR, CANNOT_OPEN_FILE, SYSTEM_ERROR, S3_ERROR,
    # CANNOT_CREATE_FILE
    (Refusal("disk", "Check the server's disk and its permissions."), frozenset({74, 75, 76, 425, 499, 586})),
    # NETWORK_ERROR, ABORTED (a server that stops), DEADLOCK_AVOIDED, UNEXPECTED_END_OF_FILE (a request cut off)
    (AWAY, frozenset({3, 210, 236, 473})),
    (
        MISMATCH,
        # THERE_IS_NO_COLUMN, NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE, NUMBER_OF_COLUMNS_DOESNT_MATCH,
        # ILLEGAL_COLUMN, UNKNOWN_IDENTIFIER, TYPE_MISMATCH, CANNOT_CONVERT_TYPE
        frozenset({8, 10, 16, 20, 44, 47, 53, 70}),
    ),
)
_BY_CODE = {code: kind for kind, codes in _KINDS for code in codes}
_NO_SPACE = ("No space left on device", "errno: 28")


def refusal(code: int | None, text: str) -> Refusal:
    """Return the kind of an error. `code` is ClickHouse's (src/Common/ErrorCodes.cpp); None: no server answered."""
    if any(message in text for message in _NO_SPACE):  # With several codes: of a file, of the C++ library ...
        return DISK_FULL
    if code is None:
        return AWAY
    return _BY_CODE.get(code, UNKNOWN)
