"""The picture of docs/performance.md: bars on a logarithmic scale, as SVG written by hand, so that it needs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = {"ours": "#0b7a75", "variant": "#7fbab6", "ceiling": "#7a7a7a", "part": "#c9c9c9", "by hand": "#b8860b",
           "peer": "#a03c4e"}  # fmt: skip
WORDS = {"ours": "Wattlog", "variant": "Wattlog, set otherwise", "ceiling": "ceiling", "by hand": "by hand",
         "peer": "other frameworks"}  # fmt: skip
LEFT, WIDTH, ROW, TOP = 360, 560, 22, 56
LEAST = 1e3


def bars(results: Sequence[Mapping[str, Any]]) -> str:
    """Median rows per worker CPU second of each contestant, fastest first, least to most as a whisker."""
    rows = sorted((r for r in results if r["kind"] in WORDS), key=lambda r: -r["rows_per_cpu_s"]["median"])
    greatest = max((r["rows_per_cpu_s"]["most"] for r in rows), default=LEAST * 10)
    decades = max(math.ceil(math.log10(greatest / LEAST)), 1)
    height = TOP + ROW * len(rows) + 36
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 80} {height}" font-family="sans-serif" '
        'font-size="12" role="img"><title>Rows per worker CPU second</title>',
        f'<rect width="100%" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-size="15">Rows per worker CPU second, all included (logarithmic)</text>',
    ]
    out += _legend()
    for d in range(decades + 1):
        x = LEFT + WIDTH * d / decades
        label = f"{LEAST * 10**d:,.0f}"
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - 30}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle" fill="#555555">{label}</text>')
    for i, r in enumerate(rows):
        out += _bar(r, TOP + ROW * i, decades)
    return "\n".join([*out, "</svg>"]) + "\n"


def _legend() -> list[str]:
    out, x = [], 12
    for kind, word in WORDS.items():
        out.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{COLOURS[kind]}"/>')
        out.append(f'<text x="{x + 16}" y="42">{word}</text>')
        x += 40 + 7 * len(word)
    return out


def _at(value: float, decades: int) -> float:
    return LEFT + WIDTH * max(math.log10(max(value, LEAST) / LEAST), 0) / decades


def _bar(r: Mapping[str, Any], y: int, decades: int) -> list[str]:
    figure = r["rows_per_cpu_s"]
    end, low, high = (_at(figure[k], decades) for k in ("median", "least", "most"))
    middle = y + ROW / 2
    return [
        f'<text x="{LEFT - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(label(r))}</text>',
        f'<rect x="{LEFT}" y="{y + 4}" width="{end - LEFT:.1f}" height="{ROW - 8}" fill="{COLOURS[r["kind"]]}"/>',
        f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="#222222" stroke-width="2"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{middle + 4:.0f}" fill="#333333">{figure["median"]:,.0f}</text>',
    ]


def label(r: Mapping[str, Any]) -> str:
    rows, _, body = str(r["shape"]).partition("-")
    shape = "one JSON event" if rows == "1" else f"{rows} rows, JSON columns" if body == "json" else f"{rows} rows"
    return f"{r['name']}, {shape}"
