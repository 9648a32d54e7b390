"""Protection in browsers: DNS rebinding, headers, and a page that loads nothing from other hosts."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8787", "", "10.0.0.1", "[::2]", "a b"]
)
def test_a_host_name_other_than_loopback_is_misdirected(client: TestClient, host: str) -> None:
    answer = client.get("/v1/chargeback", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert "rows" not in answer.json()


@pytest.mark.parametrize("host", ["localhost", "localhost:8787", "127.0.0.1:1", "[::1]:8787", "LOCALHOST"])
def test_the_names_of_loopback_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_any_host_name_is_allowed_with_tokens(open_api: Callable[..., TestClient]) -> None:
    api = open_api("http://wattlog.example", api_host="0.0.0.0", api_jwt_key="0123456789abcdef0123456789abcdef")
    assert api.get("/healthz").status_code == 200


def test_no_other_origin_is_allowed(client: TestClient) -> None:
    answer = client.get("/v1/chargeback", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_every_response_has_a_content_policy_and_data_is_not_cached(client: TestClient) -> None:
    for url in ("/", "/v1/chargeback", "/nope", "/static/app.js"):
        headers = client.get(url).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/v1/chargeback").headers["cache-control"] == "no-store"


def test_the_page_and_its_files_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert client.get(path).status_code == 200, path


def test_the_page_loads_nothing_from_other_hosts_and_has_no_inline_script_or_style() -> None:
    for file in (resources.files("api") / "static").iterdir():
        text = file.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, (file.name, addresses)
        assert "innerHTML" not in text and " style=" not in text, file.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), file.name


def test_metrics_count_by_route_and_show_the_newest_window(client: TestClient) -> None:
    client.get("/v1/ledger/eu-1/chat/2026-10-31T22:00:00Z/intervals")
    client.get("/whatever/1")
    client.request("BREW", "/v1/chargeback")
    text = client.get("/metrics").text
    assert 'route="/v1/ledger/{cluster}/{workload}/{window_start}/intervals",status="200"' in text
    assert 'route="(none)",status="404"' in text and "/whatever" not in text
    assert 'method="(other)"' in text and "BREW" not in text
    assert "wattlog_final_age_seconds 60.0" in text
    assert re.search(r'wattlog_window_energy_joules\{part="active",simulated="false",tenant="acme"\} 4537\.\d+', text)
    assert 'simulated="true",tenant="initech"' not in text or "initech" in text
    assert "wattlog_warehouse_up 1.0" in text
