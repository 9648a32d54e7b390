"""Declarations of a plug-in's tests for the conformance suite: feeds of a bad piece between good ones.

The file `feeds.py` beside a plug-in's tests, or above them, has `FEEDS`: by the plug-in's name, its feeds; or one
sentence that says why it has no input from outside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from contracts.events import PowerBatch, TokenBatch, UsageBatch
from producers.api import GpuSensor, PolledSource
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock

VALUES: Mapping[str, object] = {
    "cut": b'{"id": "x", "mod', "nested": b"[" * 100_000, "objects": b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    "overflow": b"1e99999999999999999999", "NaN": b"NaN", "infinity": b"Infinity", "-infinity": b"-Infinity",
    "huge": b"9" * 5_000, "encoding": b"\xff\xfe\x00", "surrogate": b'"\\ud800"', "null": b"null", "text": b'"x"',
    "control": b"\x00\x01", "long": b"x" * 2**21,
}  # fmt: skip
"""Malformed input, which stands in the place of a number, an item or a whole answer."""
OBJECTS: Mapping[str, object] = {
    "NaN": float("nan"), "infinity": float("inf"), "-infinity": float("-inf"), "overflow": 10**400,
    "huge": 10**5_000, "negative": -(2**70), "text": "x", "encoding": b"\xff\xfe", "list": [1], "surrogate": "\ud800",
    "decimal": Decimal("sNaN"), "exponent": Decimal("1E+999999"),
}  # fmt: skip
"""The same as a driver returns it: values of the wrong class or size."""
ERRORS: Mapping[str, Exception] = {type(error).__name__: error for error in (
    RuntimeError("a fault"), RecursionError(), MemoryError(), KeyError("x"), OverflowError("too large"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), InvalidOperation(), AssertionError(),
    type("LibraryError", (Exception,), {})("a library's own"), OSError(5, "I/O error"), ZeroDivisionError(),
)}  # fmt: skip
"""Exceptions of any class, which the reading of a piece raises."""


class Piece(NamedTuple):
    """A bad piece of input: what is read, or the exception that its reading raises."""

    name: str
    content: Any

    def read(self) -> Any:
        """Return the content, or raise it."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    @property
    def is_error(self) -> bool:
        return isinstance(self.content, Exception)


class Outcome(NamedTuple):
    """Outcome of a run: the amount of the good items on the log, that of all, and refusals by (source, reason).

    `log` holds the lines that a recording reports; others go to the process's log.
    """

    amount: float
    expected: float
    refusals: Mapping[tuple[str, str], float]
    log: Sequence[str] = ()


class Feed(NamedTuple):
    """A place of a plug-in's input. `run` feeds a bad piece there, between good ones, through the frame.

    `harmless` are pieces that the plug-in documents as no value, or reads as a text: they need no refusal.
    `slow` names what bounds slow input there: a client in `test_slow_input.CLIENTS`, or one of `BOUNDS`.
    """

    place: str
    run: Callable[[Piece, Path], Outcome]
    slow: str
    pieces: Mapping[str, object] = VALUES
    errors: Mapping[str, object] = ERRORS
    harmless: Sequence[str] = ()
    class_is_reason: bool = True
    """Whether an exception's class is the reason; False where a request or a row is refused under another."""


BOUNDS: Mapping[str, str] = {
    "file": "bounded blocks of a regular file",
    "kernel": "files and calls of the kernel or the driver, on the node itself",
    "Kafka": "timeouts of librdkafka, and bytes of a step",
    "gRPC": "the deadline and the size of the call",
    "command": "the timeout of the command",
    "request": "the listener's time for a head and a body, and the bytes of a body",
}
"""Bounds of slow input that is no exchange with a server."""


def refusals(registry: CollectorRegistry) -> Counter[tuple[str, str]]:
    """Return `wattlog_producer_refused_total` by (source, reason)."""
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return Counter({
        (sample.labels["source"], sample.labels["reason"]): sample.value
        for sample in samples if sample.name == "wattlog_producer_refused_total"
    })  # fmt: skip


def poll(sources: Iterable[PolledSource], folder: Path, clock: FakeClock) -> tuple[FakeBroker, CollectorRegistry]:
    """Run sources in the poll loop until the clock's end."""
    log, metrics = FakeBroker(), CollectorRegistry()
    with closing(Spool(folder / "spool.db")) as spool:
        PollLoop(list(sources), Delivery(spool, log), clock, {}, PollLoopMetrics(metrics)).run()
    return log, metrics


def sample(sensor: GpuSensor, folder: Path, clock: FakeClock) -> tuple[FakeBroker, CollectorRegistry]:
    """Run a sensor in the agent until the clock's end."""
    log, metrics = FakeBroker(), CollectorRegistry()
    with closing(Spool(folder / "spool.db")) as spool:
        node = AgentConfig("c", "n", kind=sensor.kind, boot="b")
        Agent(node, sensor, Delivery(spool, log), clock, dict, AgentMetrics(metrics)).run()
    return log, metrics


def joules(log: FakeBroker) -> int:
    """Return the energy on a log."""
    return sum(int(e.batch.energy_uj.sum()) for e in log.stored if isinstance(e.batch, PowerBatch)) // 1_000_000


def quantity(log: FakeBroker, meter: str = "") -> float:
    """Return the sum of the metered quantities on a log, of one meter or of all."""
    batches = [e.batch for e in log.stored if isinstance(e.batch, UsageBatch)]
    pairs = [(m, q) for batch in batches for m, q in zip(batch.meter, batch.quantity, strict=True)]
    return float(sum(Decimal(q) for m, q in pairs if not meter or m == meter))


def token_rows(log: FakeBroker) -> list[tuple[str, int]]:
    """Return request id and prompt tokens of each row of tokens on a log."""
    batches = [e.batch for e in log.stored if isinstance(e.batch, TokenBatch)]
    return [pair for b in batches for pair in zip(b.request_id, b.prompt_tokens.tolist(), strict=True)]


def logged(text: str, source: str) -> list[str]:
    """Return the lines of a log that report refusals of a source."""
    return re.findall(rf"^.*{re.escape(source)}: (?:left out|tried again): .*$", text, re.M)
