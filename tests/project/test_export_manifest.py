"""k8s/exports runs a command that there is, as restricted as the rest, and reaches ClickHouse and the store only."""

from __future__ import annotations

from typing import Any

import yaml
from typer.testing import CliRunner

from cli.main import app
from tests.project.tree import ROOT


def _objects(path: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "k8s" / path).read_text("utf-8"))
    return {document["kind"]: document for document in documents}


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["jobTemplate"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def test_the_cron_job_runs_a_command_that_there_is() -> None:
    (container,) = _pod(_objects("exports/export.yaml")["CronJob"])["containers"]
    program, *words = container["command"]
    options = [word for word in words if word.startswith("--")]
    usage = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words[:2], "--help"]).stdout
    assert program == "wattlog"
    assert all(option in usage for option in options)


def test_the_pod_is_as_restricted_as_the_hourly_reconciliation() -> None:
    pod, other = (_pod(_objects(path)["CronJob"]) for path in ("exports/export.yaml", "base/reconcile.yaml"))
    assert pod["securityContext"] == other["securityContext"]
    assert pod["containers"][0]["securityContext"] == other["containers"][0]["securityContext"]
    assert pod["automountServiceAccountToken"] is False


def test_credentials_are_in_a_secret_and_in_no_file() -> None:
    (container,) = _pod(_objects("exports/export.yaml")["CronJob"])["containers"]
    assert {"secretRef": {"name": "wattlog-exports"}} in container["envFrom"]
    assert "AWS_SECRET" not in (ROOT / "k8s" / "exports" / "export.yaml").read_text("utf-8")


def test_the_pod_reaches_clickhouse_and_the_store_only() -> None:
    egress = _objects("exports/export.yaml")["NetworkPolicy"]["spec"]["egress"]
    assert sorted(port["port"] for rule in egress for port in rule["ports"]) == [443, 8123, 8443]
