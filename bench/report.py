"""The tables and the picture of docs/performance.md from the last results. `python -m bench.report [--publish]`.

Without --publish they go to build/bench only. What stands between the markers in docs/performance.md is replaced, the
text around it is people's.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import picture, reports, targets
from bench.harness.broker import ROOT
from bench.harness.progress import console
from bench.harness.targets import Verdict

PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; all but the first column to the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(str(c) for c in row) + " |" for row in rows)])


def speed(found: Mapping[str, Any]) -> str:
    results = found["results"]
    ceiling = {r["shape"]: r["rows_per_cpu_s"]["median"] for r in results if r["kind"] == "ceiling"}
    peer = targets.fastest_peer(results)
    rows = []
    for r in sorted(results, key=lambda r: -r["rows_per_cpu_s"]["median"]):
        rate, wall = r["rows_per_cpu_s"], r["rows_per_wall_s"]
        of = f"{rate['median'] / ceiling[r['shape']]:.0%}" if r["shape"] in ceiling and r["kind"] == "ours" else ""
        times = f"{rate['median'] / peer[1]:.1f}" if peer and r["kind"] != "part" else ""
        rows.append(
            (
                picture.label(r), f"{rate['median']:,.0f}", f"{rate['least']:,.0f} to {rate['most']:,.0f}", of, times,
                f"{wall['median']:,.0f}", _warehouse(r), f"{r['peak_rss_mb']['median']:,.0f}", f"{r['rows']:,}",
                r["rows_per_cpu_s"]["runs"],
            )
        )  # fmt: skip
    head = ("design, rows a message", "rows / CPU s", "spread", "of ceiling", "x fastest peer", "rows / wall s",
            "ClickHouse's CPU µs a row", "peak MB", "rows", "runs")  # fmt: skip
    return table(head, rows)


def _warehouse(r: Mapping[str, Any]) -> str:
    spent = r["warehouse_cpu_s"]["median"]
    return f"{1e6 * spent / r['rows']:.2f}" if spent else ""


def mix(found: Mapping[str, Any]) -> str:
    rows = [
        (f"{r['token_share']:.0%} requests: {r['name']}", f"{r['rows_per_cpu_s']['median']:,.0f}", _warehouse(r))
        for r in found["results"]
    ]
    return table(("share of requests among all rows, design", "rows / CPU s", "ClickHouse's CPU µs a row"), rows)


def latency(found: Mapping[str, Any]) -> str:
    rows = []
    for r in found["results"]:
        end, last = r["from_window_end_ms"], r["from_last_message_ms"]
        rows.append(
            (
                f"{r['rate']:,}", f"{r['rows_per_s']:,}", f"{r['gpus']:,}",
                f"{end['p50']:,} / {end['p95']:,} / {end['p99']:,}",
                f"{last['p50']:,} / {last['p95']:,} / {last['p99']:,}", f"{r['worker_cpu_s']:.1f}",
                f"{r['producer_late_p99_ms']:.0f}",
            )
        )  # fmt: skip
    head = ("messages/s", "rows/s", "GPUs", "from window's end: p50 / p95 / p99 ms",
            "from last message: p50 / p95 / p99 ms",
            "worker CPU s, with start-up", "producer late, p99 ms")  # fmt: skip
    return table(head, rows)


def cardinality(found: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{r['size']:,} {r['what']}", f"{r['us_per_row']['median']:.2f}", f"{r['core_us_per_row']['median']:.2f}",
            f"{r['stored_rows'] / r['rows']:.2f}", f"{r['rows']:,}",
        )
        for r in found["results"]
    ]  # fmt: skip
    head = ("fleet", "µs CPU a row", "of it in the core", "rows stored a row in", "rows")
    return table(head, rows) + "\n\n" + memory(found["memory"])


def memory(held: Sequence[Mapping[str, Any]]) -> str:
    """A straight line through the sizes: bytes a key, and bytes a key and open window."""
    gpus = [h for h in held if h["kind"] == "GPU"]
    design = np.array([[h["keys"], h["keys"] * h["windows"]] for h in gpus], float)
    wanted = np.array([h["bytes"] for h in gpus], float)
    (key, per_window), *_ = np.linalg.lstsq(design, wanted, rcond=None)
    off = float(np.abs(design @ np.array([key, per_window]) / wanted - 1).max())
    requests = [h["bytes"] / h["rows"] for h in held if h["kind"] == "request"]
    return (
        f"Memory of open windows: {per_window:.0f} bytes a GPU and window, and {key:.0f} bytes a GPU once; the sizes "
        f"measured are within {off:.0%} of that line. A request holds {min(requests):.0f} to {max(requests):.0f} bytes "
        "in each window that it ran in, until the window is final."
    )


def queries(found: Mapping[str, Any]) -> str:
    rows = [
        (
            q["name"], f"{q['rows']:,}", f"{q['p50_ms']:,.0f}", f"{q['p95_ms']:,.0f}", f"{q['cpu_p50_ms']:,.0f}",
            "" if q["target_ms"] is None else q["target_ms"],
        )
        for q in found["questions"]
    ]  # fmt: skip
    held = ", ".join(f"{t['table']} {t['rows'] / 1e6:.1f} M" for t in found["tables"] if t["rows"] > 1e6)
    asked = (
        f"{found['times']} times each, in turn, on {found['cores']} cores (load {found['load'][0]:.1f}); rows: {held}."
    )
    return asked + "\n\n" + table(("question", "rows", "p50 ms", "p95 ms", "CPU ms", "wanted ms"), rows)


def verdicts(speed_: Any, latency_: Any, cardinality_: Any, queries_: Any = None) -> list[Verdict]:
    """All targets that something was measured for."""
    found: list[Verdict] = []
    if speed_:
        found += targets.of_speed(speed_["results"])
    if latency_:
        found += targets.of_latency(latency_["results"])
    if cardinality_:
        found += targets.of_cardinality(cardinality_["results"])
    if queries_:
        found += targets.of_queries(queries_["questions"])
    return found


def targets_table(found: Sequence[Verdict]) -> str:
    said = {True: "met", False: "**missed**", None: "not measured"}
    return table(("target", "wanted", "measured", ""), [(v.what, v.target, v.figure, said[v.met]) for v in found])


def profiles(found: Mapping[str, Any]) -> str:
    """Where the time went in each shape that missed a target."""
    parts = []
    for shape, rows in found.get("profiles", {}).items():
        listed = [(f"`{r['function']}`", f"{r['share']:.1%}", f"{r['calls']:,}") for r in rows]
        parts.append(f"Profile of the worker, {shape} (cProfile; its own cost distorts, so read it as an order):\n")
        parts.append(table(("function", "own time", "calls"), listed) + "\n")
    return "\n".join(parts)


def machine(found: Mapping[str, Any]) -> str:
    a = found["about"]
    versions = ", ".join(f"{n} {v}" for n, v in a["versions"].items())
    peers = ", ".join(pins[0].replace("==", " ") for pins in a["peers"].values())
    return (
        f"Measured {a['when']} at commit {a['commit']}, {a['cores']} cores of {a['cpu']} (load before: "
        f"{a['load_before']}), Python {a['python']}; {a['broker'] or 'no broker'}; {versions}. Peers: {peers}."
    )


def sections(folder: Path) -> dict[str, str]:
    """Generated text by marker."""
    s, m, la, c, q = (reports.load(folder, name) for name in ("speed", "mix", "latency", "cardinality", "queries"))
    made = {"targets": targets_table(verdicts(s, la, c, q))}
    if s:
        made["speed"] = "\n\n".join(filter(None, (machine(s), speed(s), profiles(s))))
    if m:
        made["mix"] = machine(m) + "\n\n" + mix(m)
    if la:
        made["latency"] = machine(la) + "\n\n" + latency(la)
    if c:
        made["cardinality"] = machine(c) + "\n\n" + cardinality(c)
    if q:
        made["queries"] = queries(q)
    return made


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with what is between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` replaced."""
    for name, text in made.items():
        block = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.S)
        page = block.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]
    return page


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md and its picture")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    given = parser.parse_args(argv)
    made = sections(given.out)
    found = reports.load(given.out, "speed")
    drawn = picture.bars(found["results"]) if found else None
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "performance.md").write_text("\n\n".join(made.values()) + "\n", "utf-8")
    if drawn:
        (given.out / "performance.svg").write_text(drawn, "utf-8")
    if given.publish:
        PAGE.write_text(filled(PAGE.read_text("utf-8"), made), "utf-8")
        if drawn:
            PICTURE.write_text(drawn, "utf-8")
    for v in verdicts(*(reports.load(given.out, name) for name in ("speed", "latency", "cardinality", "queries"))):
        said = {True: "met", False: "missed", None: "not measured"}[v.met]
        console.print(f"{said}: {v.what}: {v.figure}, wanted {v.target}", soft_wrap=True)


if __name__ == "__main__":
    main()
