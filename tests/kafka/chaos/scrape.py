"""The /metrics page of a worker."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Metrics = dict[str, float]
"""Values by name. A labelled metric is there by `name{label value}` and, summed, by name."""


def scrape(port: int) -> Metrics | None:
    """The worker's own metrics, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    metrics: Metrics = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.startswith(("wattlog_", "process_")) or sample.name.endswith("_created"):
                continue
            metrics[sample.name] = metrics.get(sample.name, 0.0) + sample.value
            for value in sample.labels.values():
                metrics[f"{sample.name}{{{value}}}"] = sample.value
    return metrics
