"""Targets for the figures, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Result = Mapping[str, Any]


class Verdict(NamedTuple):
    """One target. `figure` and `target` as people read them; `met` None where there is nothing to compare."""

    subject: str
    target: str
    figure: str
    met: bool | None
    shape: str = ""
    """Of the messages that it is about, where a profile would say why it is missed."""


RATES = (("lean", "64-packed", 2.0e6), ("stock", "64-packed", 0.75e6), ("lean", "512-packed", 4.0e6),
         ("lean", "1-json", 60_000))  # fmt: skip
OF_CEILING = (("64-packed", 0.5), ("512-packed", 0.8))
TIMES_PEER = 15.0
VISIBLE_MS = 2_000
VISIBLE_RATE = 3_000
FLAT_WITHIN = 0.20
CHARGEBACK_MS, DRILL_MS = 100, 300


def rate(results: Sequence[Result], shape: str, *, kind: str, name: str = "") -> float | None:
    """Median rows per worker CPU second of the first that fits."""
    for r in results:
        if r["shape"] == shape and r["kind"] == kind and name in r["name"]:
            return float(r["rows_per_cpu_s"]["median"])
    return None


def fastest_peer(results: Sequence[Result]) -> tuple[str, float] | None:
    peers = [(r["name"], float(r["rows_per_cpu_s"]["median"])) for r in results if r["kind"] == "peer"]
    return max(peers, key=lambda p: p[1], default=None)


def of_speed(results: Sequence[Result]) -> Iterator[Verdict]:
    """Targets on rows per worker CPU second."""
    for transport, shape, least in RATES:
        measured = rate(results, shape, kind="ours", name=transport)
        yield _least(f"{transport} transport, {_rows(shape)}: rows a CPU second", measured, least, shape)
    for shape, least in OF_CEILING:
        ours, ceiling = rate(results, shape, kind="ours", name="lean"), rate(results, shape, kind="ceiling")
        measured = ours / ceiling if ours and ceiling else None
        yield _least(f"lean transport, {_rows(shape)}: share of the ceiling", measured, least, shape)
    ours, peer = rate(results, "64-packed", kind="ours", name="lean"), fastest_peer(results)
    against = f" ({peer[0]})" if peer else ""
    measured = ours / peer[1] if ours and peer else None
    yield _least(f"lean transport, 64 rows, times the fastest peer{against}", measured, TIMES_PEER, "64-packed")
    ours, quix = rate(results, "1-json", kind="ours", name="lean"), rate(results, "1-flat", kind="peer", name="Quix")
    yield _least("one JSON event a message, times Quix Streams", ours / quix if ours and quix else None, 1.0, "1-json")


def of_latency(results: Sequence[Result]) -> Iterator[Verdict]:
    """The last row of a window visible soon after the window's end."""
    for r in results:
        if r["rate"] == VISIBLE_RATE:
            p95 = r["from_window_end_ms"]["p95"]
            yield Verdict(
                f"window's end to its last row visible, p95, at {VISIBLE_RATE:,} messages/s", f"{VISIBLE_MS:,} ms",
                f"{p95:,} ms", p95 <= VISIBLE_MS,
            )  # fmt: skip


def of_cardinality(results: Sequence[Result]) -> Iterator[Verdict]:
    """Cost per record: the dearest size over the cheapest."""
    for subject in dict.fromkeys(r["what"] for r in results):
        for figure, named in (("us_per_row", "core and warehouse"), ("core_us_per_row", "core alone")):
            costs = [(r[figure]["median"], r["size"]) for r in results if r["what"] == subject]
            ratio = max(costs)[0] / min(costs)[0]
            sizes = [s for _, s in costs]
            yield Verdict(
                f"{named}: dearest over cheapest record, {min(sizes):,} to {max(sizes):,} {subject}",
                f"{1 + FLAT_WITHIN:.2f}", f"{ratio:.2f}", ratio <= 1 + FLAT_WITHIN,
            )  # fmt: skip


def of_queries(questions: Sequence[Result]) -> Iterator[Verdict]:
    """Answers on a year of 10,000 GPUs: the slowest of those that have the same target, in the middle of its times."""
    for subject, target_ms in (("chargeback of a month", CHARGEBACK_MS), ("drill-down from a bill to a GPU", DRILL_MS)):
        waits = [q["p50_ms"] for q in questions if q["target_ms"] == target_ms]
        if waits:
            slowest = max(waits)
            yield Verdict(
                f"{subject}, a year of 10,000 GPUs: slowest question, p50", f"{target_ms} ms", f"{slowest:,.0f} ms",
                slowest <= target_ms,
            )  # fmt: skip


def _least(subject: str, measured: float | None, least: float, shape: str) -> Verdict:
    if measured is None:
        return Verdict(subject, _number(least), "not measured", None, shape)
    return Verdict(subject, _number(least), _number(measured), measured >= least, shape)


def _number(value: float) -> str:
    """`2.31 M`, `64,000`, `0.52`, `17.3`."""
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _rows(shape: str) -> str:
    rows, _, body = shape.partition("-")
    return f"{rows} rows" if body == "packed" else "one JSON event" if rows == "1" else f"{rows} rows of JSON columns"
