"""Tree of errors. Everything Wattlog raises on purpose is a `WattlogError`. Children are indented below their parent.

WattlogError
    BadInput: a value from outside is wrong; names the field, the value and the fix.
        BadEvent: an event cannot be read; its whole message goes to the dead-letter topic.
        BadSetting: a setting, a command-line option or a DSN is wrong.
        BadQuery: a query to the warehouse or the API is wrong.
        BadRows: rows of a file or a body are wrong; has an error for each of the first.
    Unavailable: a broker, a warehouse or a sensor is not there.
    AccessDenied: a request is refused because its sender is unknown or lacks the right.
    Fenced: another worker owns the partition, so this worker's write was refused.
    LedgerError: the ledger does not balance, or the log lost messages. Never swallowed.
"""

from __future__ import annotations

from collections.abc import Sequence


class WattlogError(Exception):
    """Root of all errors. `str(error)` is one sentence that a person can act on."""


class BadInput(WattlogError):
    """A value from outside is wrong.

    `field` is its name, `value` the value itself, and `fix` describes a right one.
    """

    def __init__(self, field: str, value: object, fix: str) -> None:
        self.field = field
        self.value = value
        self.fix = fix
        text = _as_code(value)
        super().__init__(_printable(f"{field}: {text if len(text) <= 80 else text[:77] + '...'}: {fix}"))


def _printable(text: str) -> str:
    """Return a text with control characters and lone surrogates escaped: it may quote input, and goes to logs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_code(value: object) -> str:
    """Return a value's `repr`, or its type if it has none: an integer of thousands of digits, a list nested too
    deeply.
    """
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"({type(value).__name__})"


class BadEvent(BadInput):
    """An event cannot be read or is implausible. Its whole message is dead-lettered with this reason."""


class BadSetting(BadInput):
    """A setting, a command-line option or a DSN cannot be used."""


class BadQuery(BadInput):
    """A query cannot be answered: unknown group, bad period, SQL that writes."""


class BadRows(BadInput):
    """Rows of a file or a body are wrong. `errors` has the first of them; each names its line in its field.

    `summary` says how many there are.
    """

    def __init__(self, field: str, value: str, summary: str, errors: Sequence[BadInput]) -> None:
        self.errors, self.summary = tuple(errors), summary
        super().__init__(field, value, f"{summary}: {'; '.join(map(str, self.errors))}")


class Unavailable(WattlogError):
    """A broker, a warehouse or a sensor is not there. `problem` describes it, `hint` says what to try.

    `reason` is a short word for /metrics. `lasting`: retries cannot help before a person has fixed something.
    """

    def __init__(self, problem: str, hint: str, *, reason: str = "away", lasting: bool = False) -> None:
        self.problem = problem
        self.hint = hint
        self.reason = reason
        self.lasting = lasting
        super().__init__(_printable(f"{problem}. {hint}"))


class AccessDenied(WattlogError):
    """A request is refused: 401 where its sender is unknown, 403 where the sender lacks the right."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class Fenced(WattlogError):
    """Another worker owns some of these partitions of the log. The warehouse refused the whole write."""

    def __init__(self, log_id: str, log_partitions: tuple[int, ...], epoch: int) -> None:
        self.log_id, self.log_partitions, self.epoch = log_id, log_partitions, epoch
        which = "some of partitions" if len(log_partitions) > 1 else "partition"
        super().__init__(
            f"Another worker has claimed {which} {', '.join(map(str, log_partitions))} of {log_id} since this one did "
            f"(epoch {epoch}), and stores it from here on"
        )


class LedgerError(WattlogError):
    """The ledger does not balance, or the log lost messages. Never swallowed."""
