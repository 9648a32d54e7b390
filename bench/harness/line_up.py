"""The contestants, the message sizes that each gets, and the number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.harness.backlog import Shape

Kind = Literal["ours", "variant", "ceiling", "part", "by hand", "peer"]
"""A variant is our worker with other settings than its own: no target hangs on it."""

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
    """Runs are fewer where nothing hangs on them, or they take long."""

    @property
    def stores(self) -> bool:
        return self.kind != "part"

    @property
    def exact(self) -> bool:
        """True if its ledger must equal the input to the microjoule, tenant by tenant."""
        return self.kind in ("ours", "variant", "ceiling")

    @property
    def transport(self) -> str | None:
        """Transport of our worker; None for others."""
        return self.options.get("transport")


_ROWS = {"8-packed": 1_000_000, "64-packed": 6_000_000, "512-packed": 10_000_000, "64-json": 3_000_000,
         "1-json": 160_000}  # fmt: skip
_FLAT_ROWS = 160_000
"""Two minutes of event time: longer backlogs lose rows in Bytewax and Pathway (docs/performance.md)."""
_MOST_RUNS = {"64-packed": 5, "512-packed": 5, "1-json": 3}
"""As often as anybody is run where a target looks; others twice. What is asked for by --repeats may be fewer."""


TRANSPORTS = ("lean", "stock")
_LEDGER_ONLY = {"single requests not kept": {"requests": "none"}}
_EMBEDDED = {"ClickHouse in its process": {"embedded": True}}
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "64-packed": {**_LEDGER_ONLY, **_EMBEDDED}, "512-packed": _LEDGER_ONLY,
}  # fmt: skip


def _wattlog() -> Iterator[Contestant]:
    for shape in (*PACKED.values(), COLUMNS, SINGLE):
        rows, runs = _ROWS[shape.name], _MOST_RUNS.get(shape.name, 2)
        for transport in TRANSPORTS:
            name = f"Wattlog, {transport} transport"
            yield Contestant(name, "ours", HERE + "worker", shape, rows, {"transport": transport}, most_runs=runs)
        for name, options in _VARIANTS.get(shape.name, {}).items():
            name, options = f"Wattlog, lean transport, {name}", {"transport": "lean", **options}
            yield Contestant(name, "variant", HERE + "worker", shape, rows, options, most_runs=2)
        name = "plain confluent-kafka, Wattlog's core"
        yield Contestant(name, "ceiling", HERE + "ceiling", shape, rows, most_runs=runs)
        for name, part in (("core only, no broker, no warehouse", "core"), ("decode only", "decode")):
            yield Contestant(name, "part", HERE + "core_only", shape, rows, {"part": part}, most_runs=2)


def _peers() -> Iterator[Contestant]:
    contestants: list[tuple[str, Kind, str, str | None, int, int]] = [
        ("plain confluent-kafka and dictionaries", "by hand", "by_hand", None, 3 * _FLAT_ROWS, 2),
        ("Faust, Records and windowed Tables", "peer", "faust_tables", "faust", _FLAT_ROWS // 2, 2),
        ("Quix Streams", "peer", "quix", "quix", _FLAT_ROWS, 3),
        ("Bytewax", "peer", "bytewax_flow", "bytewax", _FLAT_ROWS, 3),
        ("Pathway", "peer", "pathway_flow", "pathway", _FLAT_ROWS, 3),
    ]
    for name, kind, module, environment, rows, runs in contestants:
        yield Contestant(name, kind, HERE + module, FLAT, rows, environment=environment, most_runs=runs)


def line_up(*, peers: bool = True) -> list[Contestant]:
    """All contestants."""
    return [*_wattlog(), *(_peers() if peers else ())]
