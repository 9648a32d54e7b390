"""Who is compared, on which shape of message, with how many rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.harness.backlog import Shape

Kind = Literal["ours", "ceiling", "part", "by hand", "peer"]

PACKED = {rows: Shape(rows, "packed") for rows in (8, 64, 512)}
COLUMNS, SINGLE, FLAT = Shape(64, "json"), Shape(1, "json"), Shape(1, "flat")
HERE = "bench.contestants."


@dataclass(frozen=True)
class Contestant:
    """`rows` is how much it is given: a few CPU seconds' worth. `environment` names a peer's own (see
    `bench.harness.environments`); None is Wattlog's."""

    name: str
    kind: Kind
    module: str
    shape: Shape
    rows: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    environment: str | None = None
    most_runs: int = 100
    """Fewer runs for who takes long."""

    @property
    def exact(self) -> bool:
        """Whether its ledger must equal the input to the microjoule, tenant by tenant like the others'."""
        return self.kind in ("ours", "ceiling")


_ROWS = {"8-packed": 2_000_000, "64-packed": 6_000_000, "512-packed": 10_000_000, "64-json": 3_000_000,
         "1-json": 160_000}  # fmt: skip


def _wattlog(transports: tuple[str, ...]) -> Iterator[Contestant]:
    for shape in (*PACKED.values(), COLUMNS, SINGLE):
        rows = _ROWS[shape.name]
        for transport in transports:
            options = {"transport": transport} if len(transports) > 1 else {}
            yield Contestant(f"Wattlog, {transport} transport", "ours", HERE + "worker", shape, rows, options)
        yield Contestant("plain confluent-kafka, Wattlog's core", "ceiling", HERE + "ceiling", shape, rows)
    for shape in (*PACKED.values(), COLUMNS, SINGLE):
        for name, part in (("core only, no broker, no warehouse", "core"), ("decode only", "decode")):
            yield Contestant(name, "part", HERE + "core_only", shape, _ROWS[shape.name], {"part": part})


def _peers() -> Iterator[Contestant]:
    yield Contestant("plain confluent-kafka and dictionaries", "by hand", HERE + "by_hand", FLAT, 160_000)
    yield Contestant(
        "Faust, Records and windowed Tables", "peer", HERE + "faust_tables", FLAT, 40_000, environment="faust"
    )
    yield Contestant("Quix Streams", "peer", HERE + "quix", FLAT, 160_000, environment="quix")
    yield Contestant("Bytewax", "peer", HERE + "bytewax_flow", FLAT, 160_000, environment="bytewax")
    yield Contestant("Pathway", "peer", HERE + "pathway_flow", FLAT, 160_000, environment="pathway")


def line_up(transports: tuple[str, ...], *, peers: bool = True) -> list[Contestant]:
    """All contestants. `transports` are those that this version's worker knows."""
    return [*_wattlog(transports), *(_peers() if peers else ())]


def transports() -> tuple[str, ...]:
    """What WATTLOG_TRANSPORT may be made to choose; ("stock",) where there is no such setting."""
    from contracts.settings import Settings

    return ("lean", "stock") if "transport" in Settings.model_fields else ("stock",)
