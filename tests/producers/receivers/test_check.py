"""The check of the listener by `wattlog doctor`: none unless it or one of its routes is configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.settings import Settings
from producers import registry
from producers.api import Kind
from producers.runtime.runner import check


@pytest.mark.parametrize(
    ("config", "is_checked"),
    [
        ("", False),
        ('cluster = "east"', False),
        ("[produce.http]\nport = 9000", True),
        ('[[produce.requests.deployments]]\nmodel = "m"\nworkload = "chat"', True),
        ('[produce.requests]\notherwise = "acme"', True),
        ('[produce.otlp]\nlogs = ["claude_code.api_request"]', True),
        ('[produce.otel]\ntopic = "otlp_spans"', False),
    ],
)
def test_the_listener_is_checked_where_one_of_its_routes_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, is_checked: bool
) -> None:
    (tmp_path / "wattlog.toml").write_text(config)
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    findings = list(check(registry.get("http", Kind.LISTENER), Settings(data=tmp_path)))
    assert [isinstance(result, str) and "/v1/requests" in result for _, result in findings] == [True] * is_checked
