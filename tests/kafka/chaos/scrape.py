"""What a worker shows on /metrics."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Shown = dict[str, float]
"""Values by name; of a labelled metric by `name{label value}` and, summed, by name."""


def scrape(port: int) -> Shown | None:
    """A worker's own metrics, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    found: Shown = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.startswith(("wattlog_", "process_")) or sample.name.endswith("_created"):
                continue
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
            for value in sample.labels.values():
                found[f"{sample.name}{{{value}}}"] = sample.value
    return found
