"""Outbox of a running source: its spool, with the delivery from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from contracts.settings import Settings
from producers.runtime.delivery import Delivery
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Outgoing, Spool


class Outbox(Protocol):
    """View of a `Delivery` that producers use."""

    @property
    def waiting(self) -> int: ...
    @property
    def failures(self) -> int: ...
    def offer(self, messages: Sequence[Outgoing], checkpoints: Mapping[str, bytes] | None = None) -> object: ...
    def pump(self, timeout_s: float = 0.0) -> None: ...


@contextmanager
def open_outbox(settings: Settings, name: str, kafka: Mapping[str, object]) -> Iterator[tuple[Spool, Delivery]]:
    """Open the spool `data`/spool/NAME.db and the delivery that sends from it; `kafka` overrides client properties.

    Raises Unavailable where another process has the spool.
    """
    path, max_bytes = settings.data / "spool" / f"{name}.db", settings.spool_mb * 2**20
    with (
        closing(Spool(path, max_bytes=max_bytes)) as spool,
        Publisher({**kafka_config(settings), **kafka}) as publisher,
    ):
        yield spool, Delivery(spool, publisher)
