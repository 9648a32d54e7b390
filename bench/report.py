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


def speed(result: Mapping[str, Any]) -> str:
    results = result["results"]
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


def mix(result: Mapping[str, Any]) -> str:
    rows = [
        (f"{r['token_share']:.0%} requests: {r['name']}", f"{r['rows_per_cpu_s']['median']:,.0f}", _warehouse(r))
        for r in result["results"]
    ]
    return table(("share of requests among all rows, design", "rows / CPU s", "ClickHouse's CPU µs a row"), rows)


def latency(result: Mapping[str, Any]) -> str:
    rows = []
    for r in result["results"]:
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


def cardinality(result: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{r['size']:,} {r['what']}", f"{r['us_per_row']['median']:.2f}", f"{r['core_us_per_row']['median']:.2f}",
            f"{r['stored_rows'] / r['rows']:.2f}", f"{r['rows']:,}",
        )
        for r in result["results"]
    ]  # fmt: skip
    head = ("fleet", "µs CPU a row", "of it in the core", "rows stored a row in", "rows")
    return table(head, rows) + "\n\n" + memory(result["memory"])


def memory(held: Sequence[Mapping[str, Any]]) -> str:
    """A straight line through the sizes: bytes a key, and bytes a key and open window."""
    gpus = [h for h in held if h["kind"] == "GPU"]
    design = np.array([[h["keys"], h["keys"] * h["windows"]] for h in gpus], float)
    key_bytes = np.array([h["bytes"] for h in gpus], float)
    (key, per_window), *_ = np.linalg.lstsq(design, key_bytes, rcond=None)
    off = float(np.abs(design @ np.array([key, per_window]) / key_bytes - 1).max())
    requests = [h["bytes"] / h["rows"] for h in held if h["kind"] == "request"]
    return (
        f"Memory of open windows: {per_window:.0f} bytes a GPU and window, and {key:.0f} bytes a GPU once; the sizes "
        f"measured are within {off:.0%} of that line. A request holds {min(requests):.0f} to {max(requests):.0f} bytes "
        "in each window that it ran in, until the window is final."
    )


def queries(result: Mapping[str, Any]) -> str:
    rows = [
        (
            q["name"], f"{q['rows']:,}", f"{q['p50_ms']:,.0f}", f"{q['p95_ms']:,.0f}", f"{q['cpu_p50_ms']:,.0f}",
            "" if q["target_ms"] is None else q["target_ms"],
        )
        for q in result["questions"]
    ]  # fmt: skip
    held = ", ".join(f"{t['table']} {t['rows'] / 1e6:.1f} M" for t in result["tables"] if t["rows"] > 1e6)
    caption = (
        f"{result['times']} times each, in turn, on {result['cores']} cores (load {result['load'][0]:.1f}); "
        f"rows: {held}."
    )
    return caption + "\n\n" + table(("question", "rows", "p50 ms", "p95 ms", "CPU ms", "wanted ms"), rows)


def verdicts(speed_: Any, latency_: Any, cardinality_: Any, queries_: Any = None) -> list[Verdict]:
    """All targets that something was measured for."""
    result: list[Verdict] = []
    if speed_:
        result += targets.of_speed(speed_["results"])
    if latency_:
        result += targets.of_latency(latency_["results"])
    if cardinality_:
        result += targets.of_cardinality(cardinality_["results"])
    if queries_:
        result += targets.of_queries(queries_["questions"])
    return result


def targets_table(result: Sequence[Verdict]) -> str:
    wording = {True: "met", False: "**missed**", None: "not measured"}
    return table(
        ("target", "wanted", "measured", ""), [(v.subject, v.target, v.figure, wording[v.met]) for v in result]
    )


def profiles(result: Mapping[str, Any]) -> str:
    """Render the profile of each message size that missed a target."""
    parts = []
    for shape, rows in result.get("profiles", {}).items():
        listed = [(f"`{r['function']}`", f"{r['share']:.1%}", f"{r['calls']:,}") for r in rows]
        parts.append(f"Profile of the worker, {shape} (cProfile; its own cost distorts, so read it as an order):\n")
        parts.append(table(("function", "own time", "calls"), listed) + "\n")
    return "\n".join(parts)


def machine(result: Mapping[str, Any]) -> str:
    a = result["about"]
    versions = ", ".join(f"{n} {v}" for n, v in a["versions"].items())
    peers = ", ".join(pins[0].replace("==", " ") for pins in a["peers"].values())
    return (
        f"Measured {a['when']} at commit {a['commit']}, {a['cores']} cores of {a['cpu']} (load before: "
        f"{a['load_before']}), Python {a['python']}; {a['broker'] or 'no broker'}; {versions}. Peers: {peers}."
    )


def sections(folder: Path) -> dict[str, str]:
    """Generated text by marker."""
    s, m, la, c, q = (reports.load(folder, name) for name in ("speed", "mix", "latency", "cardinality", "queries"))
    rendered = {"targets": targets_table(verdicts(s, la, c, q))}
    if s:
        rendered["speed"] = "\n\n".join(filter(None, (machine(s), speed(s), profiles(s))))
    if m:
        rendered["mix"] = machine(m) + "\n\n" + mix(m)
    if la:
        rendered["latency"] = machine(la) + "\n\n" + latency(la)
    if c:
        rendered["cardinality"] = machine(c) + "\n\n" + cardinality(c)
    if q:
        rendered["queries"] = queries(q)
    return rendered


def filled(page: str, rendered: Mapping[str, str]) -> str:
    """The page with what is between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` replaced."""
    for name, text in rendered.items():
        block = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.S)
        page = block.sub(lambda result, text=text: f"{result[1]}{text}\n{result[2]}", page)  # type: ignore[misc]
    return page


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md and its picture")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    options = parser.parse_args(argv)
    rendered = sections(options.out)
    result = reports.load(options.out, "speed")
    drawn = picture.bars(result["results"]) if result else None
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "performance.md").write_text("\n\n".join(rendered.values()) + "\n", "utf-8")
    if drawn:
        (options.out / "performance.svg").write_text(drawn, "utf-8")
    if options.publish:
        PAGE.write_text(filled(PAGE.read_text("utf-8"), rendered), "utf-8")
        if drawn:
            PICTURE.write_text(drawn, "utf-8")
    for v in verdicts(*(reports.load(options.out, name) for name in ("speed", "latency", "cardinality", "queries"))):
        wording = {True: "met", False: "missed", None: "not measured"}[v.met]
        console.print(f"{wording}: {v.subject}: {v.figure}, wanted {v.target}", soft_wrap=True)


if __name__ == "__main__":
    main()
