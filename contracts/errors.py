"""The error tree. Everything Wattlog raises on purpose is a `WattlogError`.

WattlogError
├── BadInput            a value from outside is wrong: names the field, the value and the mend
│   ├── BadEvent        an event on the log that cannot be read: goes, whole, to the dead-letter topic
│   ├── BadSetting      a setting, an option or a DSN
│   └── BadQuery        a question to the warehouse or the API that cannot be asked
├── Unavailable         something we need is not there: broker, warehouse, sensor
├── Refused             a request that may not be answered: who sends it is not known, or may not do this
├── Fenced              another worker has taken the partition over: this one's write was refused
└── LedgerError         the books do not balance, or the log lost something: never swallowed
"""

from __future__ import annotations


class WattlogError(Exception):
    """The root. `str(error)` is one sentence that a person can act on."""


class BadInput(WattlogError):
    """A value from outside is wrong.

    `field` says which, `value` what it was, `mend` what would be right.
    """

    def __init__(self, field: str, value: object, mend: str) -> None:
        self.field = field
        self.value = value
        self.mend = mend
        shown = repr(value)
        super().__init__(f"{field}: {shown if len(shown) <= 80 else shown[:77] + '...'}: {mend}")


class BadEvent(BadInput):
    """An event that cannot be read or believed. The whole message is dead-lettered with this reason."""


class BadSetting(BadInput):
    """A setting, a command-line option or a DSN that cannot be used."""


class BadQuery(BadInput):
    """A question that cannot be asked: unknown group, bad period, SQL that writes."""


class Unavailable(WattlogError):
    """A broker, a warehouse, a sensor is not there. `hint` says what to try.

    `reason` is a short word for /metrics. `lasting`: a person has to mend something before trying again can help.
    """

    def __init__(self, what: str, hint: str, *, reason: str = "away", lasting: bool = False) -> None:
        self.what = what
        self.hint = hint
        self.reason = reason
        self.lasting = lasting
        super().__init__(f"{what}. {hint}")


class Refused(WattlogError):
    """A request that may not be answered: 401 where its sender is not known, 403 where they may not do this."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class Fenced(WattlogError):
    """Another worker has claimed some of these partitions of the log: the warehouse refused this one's write, whole."""

    def __init__(self, log_id: str, log_partitions: tuple[int, ...], epoch: int) -> None:
        self.log_id, self.log_partitions, self.epoch = log_id, log_partitions, epoch
        which = "some of partitions" if len(log_partitions) > 1 else "partition"
        super().__init__(
            f"Another worker has claimed {which} {', '.join(map(str, log_partitions))} of {log_id} since this one did "
            f"(epoch {epoch}), and stores it from here on"
        )


class LedgerError(WattlogError):
    """The books do not balance, or the log lost something. Loud, never swallowed."""
