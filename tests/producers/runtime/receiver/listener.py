"""The receiver in this process: the real application, queue and spool over a broker whose answers a test decides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from producers.runtime.deduplication import DeduplicationWindow
from tests.support.brokers import FakeBroker
from tests.support.clocks import FixedWallClock
from tests.support.waiting import HANG_S

with warnings.catch_warnings():  # Starlette would rather have a package that is not httpx.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

import jwt

from contracts.events import Event, UsageBatch
from contracts.settings import Settings
from producers.api import Route
from producers.receivers.cloudevents import events
from producers.receivers.cloudevents.meter_rules import MeterRule, MeterRules
from producers.runtime.delivery import Delivery
from producers.runtime.receiver.auth import Verifier
from producers.runtime.receiver.delivery_queue import DeliveryQueue
from producers.runtime.receiver.door import SenderRules
from producers.runtime.receiver.metrics import ReceiverMetrics
from producers.runtime.receiver.sender_memories import SenderMemories, SenderMemory
from producers.runtime.receiver.sender_quotas import NO_QUOTA, Quota
from producers.runtime.receiver.server import RequestHandler, RequestLimits, create_app
from producers.runtime.series_totals import SeriesTotals
from producers.runtime.spool import Spool

NOW_MS = 1_793_491_260_000
LOOPBACK = "http://127.0.0.1:8788"
SECRET = "a secret of at least 32 bytes, for tests"
FAR = 4_000_000_000
SENDS = "send:requests send:usage"
"""Scopes of a gateway, for a token that is bound to tenants."""
EVENTS = events.PATH
ONE, MANY, JSON = events.ONE, events.MANY, events.JSON


class UsageBroker(FakeBroker):
    """A broker of usage events."""

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """Every row of every event on the log, in order."""
        return [row for event in self.stored for row in rows(event)]


def rows(event: Event) -> list[Mapping[str, Any]]:
    """The rows of a usage event by column name, and its workload."""
    batch = event.batch
    assert isinstance(batch, UsageBatch)
    names = ("meter", "unit", "tenant", "quantity", "t0_ms", "origin", "event_id", "session_id", "trace_id", "step")
    return [
        {name: getattr(batch, name)[n] if len(getattr(batch, name)) else "" for name in names}
        | {"dimensions": dict(batch.dimensions[n]) if batch.dimensions else {}, "workload": event.workload}
        for n in range(len(batch))
    ]


class Listener:
    """A client of the receiver, and the parts behind it."""

    def __init__(
        self,
        client: TestClient,
        broker: UsageBroker,
        line: DeliveryQueue,
        handler: RequestHandler,
        registry: CollectorRegistry,
        intakes: Sequence[Route],
    ) -> None:
        self.client, self.broker, self.line, self.registry = client, broker, line, registry
        self.grpc_routes = [route for route in intakes if route.grpc_method]
        self._handler = handler

    def be_patient(self) -> None:
        """Wait for acknowledgements without a limit from now on."""
        self._handler._limits = self._handler._limits._replace(ack_s=HANG_S)

    def post(self, body: Any, content_type: str = ONE, **headers: str) -> Any:
        """Send JSON, or bytes as they are."""
        sent = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return self.client.post(EVENTS, content=body, headers=sent)
        return self.client.post(EVENTS, json=body, headers=sent)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"wattlog_producer_http_{name}", labels) or 0.0


@contextmanager
def listening(
    folder: Path, *, rules: Sequence[MeterRule] = (), key: str | None = None, limits: RequestLimits | None = None,
    max_waiting: int = 1000, max_events: int = 100, intakes: Sequence[Route] = (), base_url: str = LOOPBACK,
    host: str = "127.0.0.1", broker: UsageBroker | None = None, unknown: Any = "count", accepted_status: int = 202,
    recent: DeduplicationWindow | None = None, events_route: Route | None = None,
    totals: SeriesTotals | None = None, door: SenderRules | None = None, settings: Settings | None = None,
    quota: Quota = NO_QUOTA,
) -> Iterator[Listener]:  # fmt: skip
    """Yield a receiver with these options."""
    broker, clock, registry = broker or UsageBroker(), FixedWallClock(NOW_MS), CollectorRegistry()
    metrics = ReceiverMetrics(registry)
    recent = DeduplicationWindow() if recent is None else recent
    totals = SeriesTotals() if totals is None else totals
    memories = SenderMemories(SenderMemory(recent, totals))
    line = DeliveryQueue(clock, max_waiting=max_waiting, on_resent=metrics.resent.inc, memories=memories)
    meters = MeterRules(rules, workload="external", unknown=unknown)
    route = events_route or events.cloudevents_route(
        meters, cluster="c1", max_events=max_events, ahead_ms=2_500, accepted_status=accepted_status
    )
    limits = limits or RequestLimits(read_s=HANG_S, ack_s=HANG_S)
    verifier = Verifier(key, settings=settings)
    handler = RequestHandler(
        line, verifier, limits, metrics, clock, memories, node="n1", host=host, door=door, quota=quota
    )
    spool = Spool(folder / "http.db")
    memories.load(spool.checkpoints())
    line.start(Delivery(spool, broker, on_acknowledged=line.acknowledge))
    try:
        with TestClient(create_app(handler, line, [route, *intakes]), base_url=base_url) as client:
            yield Listener(client, broker, line, handler, registry, intakes)
    finally:
        broker.silent, broker.refuses, broker.full, broker.missing = False, "", False, set()
        line.close(HANG_S)
        spool.close()


def token(key: str = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    """The value of an Authorization header."""
    return "Bearer " + jwt.encode({"exp": FAR} | claims, key, algorithm)


def event(id_: str = "00001", **more: object) -> dict[str, Any]:
    """The example of OpenMeter's documents."""
    return {
        "specversion": "1.0", "type": "request", "id": id_, "time": "2024-01-01T00:00:00.001Z", "source": "service-0",
        "subject": "customer-1", "data": {"duration_seconds": "12", "method": "GET", "route": "/hello"},
    } | more  # fmt: skip
