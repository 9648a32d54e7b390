"""The contract of plug-ins: a protocol for each kind of source, and the declaration that makes a source a plug-in.

A plug-in is one folder with its code, its page README.md and a `plugin.py` that holds a `Plugin`, and one line of
`producers.registry`; outside this repository, an entry point of the group `wattlog.producers` replaces that line.
A plug-in declares its kind and builds its source from options. The frame (`producers.runtime`) runs the source: loops,
checkpoints, deduplication, sequence numbers, spool, delivery, metrics, signals. docs/write-a-source.md writes two.

Kinds, with the result of the factory, the command or option that uses the name, and the module that runs the source:

`GPU`: a `GpuSensor`, for `wattlog produce NAME`; run by `producers.runtime.agent_runner`.
`POLLED`: several `PolledSource`s, for `wattlog produce NAME`; run by `producers.runtime.poll_loop`.
`EVENTS`: an `EventStream`, for `wattlog produce NAME`; run by `producers.runtime.pacing`.
`LISTENER`: a `Listener`, for `wattlog produce NAME`; run by `producers.runtime.receiver.runner`.
`ROUTE`: a `Route`, named in `/openapi.json` of the listener; run by `producers.runtime.receiver.runner`.
`SERVER`: `TokenCounters`, for `server` of `[produce.servers.at]`; run by `producers.servers`.
`BINDING`: a `BindingSource`, for `source` of `[produce.bindings]`; run by `producers.bindings`.
`RECORDING`: a `RecordingReader`, for `wattlog replay NAME`; run by that command.
`SHARED`: nothing; its options `[produce.NAME]` are used by other plug-ins and checked by `wattlog doctor`.

Errors: a factory raises BadSetting for a wrong configuration and Unavailable where a prerequisite is missing; both end
the process at its start. An exception of any class in a running source refuses the current item or read only: the
frame counts and logs it, and the source continues (`producers.runtime.refusals`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from prometheus_client import CollectorRegistry

from contracts.callers import Caller
from contracts.errors import Unavailable
from contracts.events import Batch, Event
from contracts.settings import Settings
from contracts.workload_names import without_gpus
from producers.bindings.claims import Boards, ClaimReport, GpuBoard
from producers.common.prometheus_text import PrometheusPage
from producers.gpu.evidence import GpuMeasurement
from producers.gpu.readings import GpuReading
from producers.recordings.base import Recording
from producers.runtime.call_bounds import NO_BOUNDS, CallBounds
from producers.runtime.clock import Clock
from producers.runtime.config import ProducerConfig
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.delivery import Broker
from producers.runtime.dimension_values import DimensionValues, dimension_values
from producers.runtime.receiver.auth import Verifier
from producers.servers.token_counters import CounterSeries, ServedTotals

Options = TypeVar("Options")
Built = TypeVar("Built")

# The declaration


class Kind(Enum):
    """Kinds of plug-ins. The value names the kind in errors."""

    GPU = "GPU sensor"
    POLLED = "polled source"
    EVENTS = "event stream"
    LISTENER = "listener"
    ROUTE = "route"
    SERVER = "inference server"
    BINDING = "binding source"
    RECORDING = "recording"
    SHARED = "shared options"


PRODUCERS = (Kind.GPU, Kind.POLLED, Kind.EVENTS, Kind.LISTENER)
"""Kinds that `wattlog produce NAME` runs: they share one space of names."""

Finding = tuple[str, Exception | str]
"""One line of `wattlog doctor`: the place that was read ("" for the machine itself), and its state or the error."""


class NotHere(Unavailable):
    """This machine has no such hardware or service. `wattlog doctor` shows it as a note, not as a failure."""


@dataclass(frozen=True)
class Environment:
    """Inputs of a factory or a check. A factory enters into `resources` all that must be closed at the end."""

    settings: Settings
    clock: Clock
    stop: threading.Event
    """Set when the process is to end."""
    resources: ExitStack
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    inventory: Callable[[], GpuInventory] = lambda: _no_inventory()
    """Opens the inventory of this machine's GPUs. Raises Unavailable where no plug-in has one."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Options of the command line, by name."""
    broker: Callable[[], AbstractContextManager[Broker]] | None = None
    """Opens the log that takes this process's events; None: the settings' Kafka."""

    @cached_property
    def dimension_values(self) -> DimensionValues:
        """Bounds of the dimensions of requests, one for the process."""
        return dimension_values(self.settings, self.metrics)

    @property
    def node(self) -> str:
        """Name of this node: the setting `node`, else the host's name."""
        return self.settings.node or socket.gethostname()


@dataclass(frozen=True)
class Plugin(Generic[Options, Built]):
    """Declaration of a plug-in.

    `factory(options, environment)` builds the source; `check(options, environment)` yields findings for `wattlog
    doctor`, none where the source is not configured. `options` is the class of `[produce.NAME]`; without one the
    factory gets None.
    """

    name: str
    kind: Kind
    summary: str
    """One line, for `wattlog produce --list` and the index of sources."""
    factory: Callable[[Options, Environment], Built]
    options: type[ProducerConfig] | None = None
    check: Callable[[Options, Environment], Iterator[Finding]] | None = None


# GPU sensor


class GpuSensor(Protocol):
    """Energy counters or watts of a node's GPUs, sampled by the agent: `producers.gpu.readings.GpuReading`.

    `kind` is the scheme of the events' source, `KIND://cluster/node/workload`, and names the spool: small letters.
    """

    @property
    def kind(self) -> str: ...

    def discover(self) -> Sequence[str]:
        """Return the UUIDs of the GPUs of this machine. Raises Unavailable where there are none."""
        ...

    def readings(self, clock: Clock, /) -> Sequence[GpuReading]:
        """Read every GPU once; leave out those that cannot be read. Raises Unavailable where none can."""
        ...


@runtime_checkable
class EvidenceReport(Protocol):
    """Optional capability of a sensor: report how each GPU is measured, by UUID, for `/metrics`."""

    @property
    def measured(self) -> Mapping[str, GpuMeasurement]: ...


@runtime_checkable
class ReportsRefusals(Protocol):
    """Optional capability of a sensor: report the pieces of its input that it left out."""

    def drain_refused(self) -> Sequence[str]:
        """Return a sentence on each piece that was refused since the last call."""
        ...


@runtime_checkable
class GpuInventory(Protocol):
    """Optional capability of a sensor: show the machine's boards and the processes that compute on them.

    Bindings use it from a separate thread. Every method raises Unavailable where it cannot be read.
    """

    def boards(self) -> Sequence[GpuBoard]:
        """Return each GPU with its partitions."""
        ...

    def running(self) -> Mapping[str, Sequence[int]]:
        """Return process ids by the UUID of the GPU or partition that they compute on."""
        ...

    def pci_addresses(self) -> Mapping[str, str]:
        """Return UUIDs by PCI address, such as `0000:01:00.0`."""
        ...


@runtime_checkable
class NamesGpus(Protocol):
    """Optional capability of a sensor without an inventory: other names of its GPUs (`0`, `nvidia0`), by UUID.

    Bindings read it from a separate thread.
    """

    @property
    def names(self) -> Mapping[str, Collection[str]]: ...


def _no_inventory() -> GpuInventory:
    raise Unavailable("No plug-in shows the GPUs of this machine", "Run this where the GPUs' driver can be reached.")


# Polled source


class WorkloadBatch(NamedTuple):
    """Rows of one workload. `node` names their origin (a server's address, a log's path), or is ""."""

    cluster: str
    workload: str
    batch: Batch
    node: str = ""


class PollResult(NamedTuple):
    """Rows since the checkpoint, and the next checkpoint; the frame stores both in one transaction."""

    batches: Sequence[WorkloadBatch]
    checkpoint: bytes
    more: bool = False
    """More can be read at once."""
    refused: Sequence[str] = ()
    """Reason for each row that could not be read: a text or a `producers.runtime.refusals.ItemRefusal`."""
    notes: Sequence[str] = ()
    """Sentences for the log."""
    skipped: Mapping[str, int] = MappingProxyType({})
    """Rows that were read and do not count, by reason (one word: a label of a metric)."""
    restarts: Sequence[str] = ()
    """Sentence on each restart of what is read since the checkpoint."""
    corrected: Mapping[str, int] = MappingProxyType({})
    """Rows that count with a value that was corrected or left out, by reason (one word: a label of a metric)."""


class PolledSource(Protocol):
    """Source that is read every `every_ms`: a log, a topic, a page, a query.

    `kind` begins the source of its events (`KIND://cluster/node/workload`); `name` identifies it within its plug-in,
    and names its checkpoint.
    """

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def every_ms(self) -> int: ...

    def collect(self, checkpoint: bytes | None, clock: Clock, /) -> PollResult:
        """Return the rows since a checkpoint; it is None at the first read.

        Raises where nothing can be read now: the frame tries again from the same checkpoint, with backoff.
        """
        ...


# Event stream


class EventStream(Protocol):
    """Stream of events known in advance: a simulation. Each is sent when the clock reaches its event time."""

    def events(self, start_ms: int, duration_ms: int | None = None, /) -> Iterator[Event]: ...


# Listener and route


class Listener(NamedTuple):
    """Address and bounds of the HTTP listener that serves every registered `Route`."""

    host: str
    port: int
    verifier: Verifier
    max_body_bytes: int
    max_requests: int
    max_waiting: int
    ack_timeout_s: float
    grpc_port: int | None = None
    """Port of OTLP over gRPC, None for none."""
    max_tokens_per_s: int | None = None
    """Most tokens per second of a request, and of a sender on a workload; None: no bound."""
    max_requests_per_s: int | None = None
    max_rows_per_s: int | None = None
    """Requests and rows of one sender per second; None: no bound."""
    senders: Sequence[Any] = ()
    """Rules of senders: `producers.runtime.receiver.door.SenderRule`."""


class ReceivedRequest(NamedTuple):
    """An authenticated request, unpacked. Header names are in small letters; `content_type` has no parameters."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    caller: Caller
    now_ms: int
    """Time of arrival in UTC epoch ms: the time of events that have none."""
    bounds: CallBounds = NO_BOUNDS
    """Beyond, an item is refused."""
    workloads: Sequence[str] | None = None
    """Patterns of `cluster/workload` that the configuration lists for this sender; None where it lists none."""

    def may_use(self, cluster: str, workload: str) -> bool:
        """Return True if the sender's rows may be on a workload: its list has it, it has none, or no GPUs serve it."""
        if self.workloads is None or without_gpus(workload):
            return True
        return any(fnmatchcase(f"{cluster}/{workload}", pattern) for pattern in self.workloads)


class ParsedRequest(NamedTuple):
    """Result of a route's `parse`. All batches must be acknowledged before the request is answered."""

    batches: Sequence[WorkloadBatch]
    refused: Sequence[str] = ()
    """Reason for each item that was left out. It is logged and counted: it must quote no secret and no prompt."""
    skipped: Mapping[str, int] = MappingProxyType({})
    """Items that do not count, by reason. With `deduplication.REPEATED` the answer waits for the earlier copies."""
    notes: Sequence[str] = ()
    """Sentences for the log."""
    answer: Mapping[str, object] = MappingProxyType({})
    """Contents of the answer, for the route's `reply`."""
    corrected: Mapping[str, int] = MappingProxyType({})
    """Items that count with a value that was corrected or left out, by reason."""


class Reply(NamedTuple):
    """Answer to an accepted request."""

    status: int = 202
    body: bytes = b""
    content_type: str = ""


def accepted(request: ReceivedRequest, parsed: ParsedRequest) -> Reply:
    """Answer 202 without a body."""
    return Reply()


@dataclass(frozen=True, slots=True)
class Route:
    """Route of the listener.

    `kind` begins the source of its events (`KIND-tokens://cluster/node/workload`): small letters. `bodies` maps each
    accepted content type to its JSON schema ({} where it is not JSON). `parse` runs in a thread and keeps no state;
    it adds the identities of what it reads to the trial, so that a retry is recognised. It raises BadInput or Rejected
    for a body that cannot be read and AccessDenied for what the caller may not send: then the whole request is refused.
    """

    path: str
    kind: str
    bodies: Mapping[str, Mapping[str, Any]]
    parse: Callable[[ReceivedRequest, DeduplicationTrial], ParsedRequest]
    reply: Callable[[ReceivedRequest, ParsedRequest], Reply] = accepted
    status: int = 202
    """Status of an accepted request in /openapi.json."""
    grpc_method: str = ""
    """Its method over gRPC, `/PACKAGE.SERVICE/METHOD`, whose messages are those of `application/x-protobuf`; "" for
    none."""


# Token counters of an inference server


class TokenCounters(Protocol):
    """Reader of one kind of inference server's `/metrics` page, usually a `NamedCounters`."""

    @property
    def name(self) -> str: ...

    def series(self, page: PrometheusPage, /) -> Sequence[CounterSeries]:
        """Return the series that count; () for a page of another server. One that cannot be read has no value."""
        ...

    def served(self, page: PrometheusPage, /) -> Mapping[str, ServedTotals | None]:
        """Return counts since the server's start by model; {} for a page of another server.

        The model is "" where the server names none. A model with a counter that cannot be read has None. Raises
        BadInput for a malformed line that may be any model's.
        """
        ...

    def running(self, page: PrometheusPage, /) -> int | None:
        """Return the number of requests in flight; None where the server does not say."""
        ...


# Binding source


class BindingSource(Protocol):
    """Source of the workloads that hold GPUs: an orchestrator, a scheduler, a table of rules."""

    @property
    def name(self) -> str: ...

    def read(self, topology: Boards, now_ms: int, /) -> ClaimReport:
        """Return the claims on these boards; `now_ms` is monotonic.

        Raises SourceAbsent (`producers.bindings.claims`) where this node has no such source, Unavailable where it does
        not answer.
        """
        ...


# Recording


class RecordingReader(Protocol):
    """Reader of recorded files: `wattlog replay NAME FILES...`.

    It is called with the paths of the files and two options: `cluster` is the cluster of its rows, and its heartbeats
    must reach `close_ms` past its end, so that its last window becomes final. Further options are a plug-in's own, from
    `[produce.NAME]`; the built-in readers get theirs from commands of their own.
    """

    def __call__(self, *files: Any, **options: Any) -> Recording: ...
