"""docs/reliability.md and docs/alerts.yaml are true: the metrics, messages and tests that they name exist."""

from __future__ import annotations

import ast
import re

import yaml

from tests.project.test_metrics import _NAME, _agent, _api, _worker
from tests.project.test_metrics import PAGE as METRICS
from tests.project.tree import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ALERTS = yaml.safe_load((ROOT / "docs" / "alerts.yaml").read_text("utf-8"))
ROOMS = ("streams", "warehouse", "producers", "contracts", "cli")


def _rows() -> list[list[str]]:
    """The fault table's cells."""
    section = PAGE.partition("## Faults")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _texts() -> str:
    """Every text in the code, with f-strings' constant parts, one a line."""
    texts = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def test_every_fault_has_metric_message_action_and_test() -> None:
    rows = _rows()
    assert len(rows) > 15
    assert all(len(row) == 5 and all(row) for row in rows)
    assert all("`tests/" in row[4] for row in rows)


def test_every_metric_of_a_worker_belongs_to_a_fault() -> None:
    names = {name for row in _rows() for name in _NAME.findall(row[1])}
    assert not _worker() - names, "add to docs/reliability.md: which fault shows there"


def test_every_named_metric_exists() -> None:
    assert not set(_NAME.findall(PAGE)) - (_worker() | _agent() | _api())


def test_every_quoted_message_is_in_the_code() -> None:
    texts = _texts()
    quoted = [text for row in _rows() for text in re.findall(r'"([^"]+)"', row[2])]
    assert len(quoted) > 10
    assert not [text for text in quoted if text not in texts]


def test_every_named_test_exists() -> None:
    paths = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))
    modules = {m.replace(".", "/") for m in re.findall(r"python -m (tests[\w.]+)", PAGE)}
    assert paths and modules
    assert not [path for path in paths if not (ROOT / path).is_file()]
    assert not [m for m in modules if not ((ROOT / f"{m}.py").is_file() or (ROOT / m / "__main__.py").is_file())]


def test_alerts_are_rules_over_metrics_that_exist() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        named = set(_NAME.findall(rule["expr"]))
        assert named and not named - (_worker() | _agent() | _api()), rule["alert"]
        assert rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical")


def test_labels_in_alerts_are_those_of_their_metrics() -> None:
    """By the column of docs/metrics.md that names a metric's labels. Prometheus adds `instance`."""
    kinds = dict(re.findall(r"^\| `(wattlog_\w+)` \| ([^|]+) \|", METRICS, re.M))
    labels = {name: set(re.findall(r"`(\w+)`", kind)) for name, kind in kinds.items()}
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        own = set.intersection(*(labels[name] for name in _NAME.findall(rule["expr"])))
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in own | {"instance"}, rule["alert"]
