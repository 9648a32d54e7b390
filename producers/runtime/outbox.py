"""Outbox of a running source: its spool, with the delivery from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from contracts.settings import Settings
from producers.runtime.claim_watch import ClaimWatch
from producers.runtime.delivery import Broker, Delivery
from producers.runtime.event_sequence import Sequencer
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Outgoing, Spool

if TYPE_CHECKING:
    from producers.api import Environment


class Outbox(Protocol):
    """View of a `Delivery` that producers use."""

    @property
    def waiting(self) -> int: ...
    @property
    def failures(self) -> int: ...
    def offer(self, messages: Sequence[Outgoing], checkpoints: Mapping[str, bytes] | None = None) -> object: ...
    def pump(self, timeout_s: float = 0.0) -> None: ...
    def heed_claims(self, numbers: Sequencer, now_ms: int) -> None: ...


@contextmanager
def open_outbox(environment: Environment, name: str, kafka: Mapping[str, object]) -> Iterator[tuple[Spool, Delivery]]:
    """Open the spool `data`/spool/NAME.db and the delivery that sends from it; `kafka` overrides client properties.

    Raises Unavailable where another process has the spool.
    """
    with (
        open_spool(environment.settings, name) as spool,
        open_broker(environment, kafka) as broker,
        open_claim_watch(environment) as claims,
    ):
        yield spool, Delivery(spool, broker, claims=claims)


def open_spool(settings: Settings, name: str) -> closing[Spool]:
    """Open the spool `data`/spool/NAME.db. Raises Unavailable where another process has it."""
    return closing(Spool(settings.data / "spool" / f"{name}.db", max_bytes=settings.spool_mb * 2**20))


def open_broker(
    environment: Environment, kafka: Mapping[str, object], **options: float
) -> AbstractContextManager[Broker]:
    """Open the process's own log, else a client of the settings' Kafka; `options` are a `Publisher`'s."""
    if environment.broker is not None:
        return environment.broker()
    return Publisher({**kafka_config(environment.settings), **kafka}, **options)


def open_claim_watch(environment: Environment) -> AbstractContextManager[ClaimWatch | None]:
    """Watch for notices that numbers were taken. The process's own log has no other writers, so it needs none."""
    if environment.broker is not None:
        return nullcontext()
    return ClaimWatch(kafka_config(environment.settings), environment.metrics)
