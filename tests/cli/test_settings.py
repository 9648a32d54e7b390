"""A wrong setting is reported with its name, its fix, and its value unless that is secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import wattlog


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WATTLOG_WINDOW_MS", "7", "window_ms: '7'"),
        ("WATTLOG_WINDOW_MS", "7000", "window_ms: '7000': 7000 does not divide an hour; try 10000 or 60000"),
        ("WATTLOG_IDLE_POLICY", "fair", "idle_policy: 'fair'"),
        ("WATTLOG_KAFKA_PARTITIONS", "0", "kafka_partitions: '0'"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_fix(variable: str, value: str, reason: str) -> None:
    ran = wattlog("config", **{variable: value})
    assert ran.status == 2
    assert reason in ran.err
    assert "Traceback" not in ran.err


def test_an_error_about_a_setting_reveals_no_other_secret() -> None:
    ran = wattlog("config", WATTLOG_WINDOW_MS="7000", WATTLOG_API_JWT_KEY="do-not-tell-anybody-of-this-key-0123456789")
    assert ran.status == 2
    assert "do-not-tell" not in ran.err + ran.out


def test_config_hides_secrets() -> None:
    ran = wattlog("config", "--json", WATTLOG_KAFKA_PASSWORD="hunter2hunter2")
    assert "hunter2" not in ran.out
    row = next(r for r in ran.json if r["setting"] == "kafka_password")
    assert row["from"] == "WATTLOG_KAFKA_PASSWORD"


def test_a_misspelt_variable_has_a_note() -> None:
    ran = wattlog("config", WATTLOG_WINDOWS_MS="10000")
    assert ran.status == 0
    assert "WATTLOG_WINDOWS_MS is not a setting" in ran.err


def test_an_option_of_a_producer_counts_as_known() -> None:
    ran = wattlog("config", WATTLOG_BINDINGS_SOURCE="kubernetes", WATTLOG_BINDINGS_SAUCE="x")
    assert "WATTLOG_BINDINGS_SOURCE" not in ran.err
    assert "WATTLOG_BINDINGS_SAUCE is not a setting" in ran.err


def test_a_misspelt_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wattlog.toml").write_text("windows_ms = 10000\n")
    ran = wattlog("config", cwd=tmp_path)
    assert ran.status == 2
    assert "windows_ms" in ran.err


@pytest.mark.parametrize("command", [("config",), ("doctor",), ("up", "--port", "0")])
@pytest.mark.parametrize("content", [b"data = \n", b'data = "x', b"\xff\xfed\x00"])
def test_a_file_that_is_no_toml_is_named_in_one_line(tmp_path: Path, command: tuple[str, ...], content: bytes) -> None:
    (tmp_path / "wattlog.toml").write_bytes(content)
    ran = wattlog(*command, cwd=tmp_path)
    assert ran.status == 2
    assert "wattlog.toml" in ran.err and "Traceback" not in ran.err and ran.err.count("\n") == 1


def test_a_file_with_a_byte_order_mark_and_crlf_is_read(tmp_path: Path) -> None:
    (tmp_path / "wattlog.toml").write_bytes(b"\xef\xbb\xbfskew_ms = 1000\r\n[produce.http]\r\nport = 1\r\n")
    ran = wattlog("config", "--json", "--data", tmp_path / "d", cwd=tmp_path)
    origin = {r["setting"]: (r["value"], r["from"]) for r in ran.json}
    assert origin["skew_ms"] == (1000, "wattlog.toml")


def test_config_names_the_origin_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "wattlog.toml").write_text("lateness_ms = 60000\nskew_ms = 1000\n")
    ran = wattlog("config", "--json", "--data", tmp_path / "d", cwd=tmp_path, WATTLOG_SKEW_MS="2000")
    origin = {r["setting"]: (r["value"], r["from"]) for r in ran.json}
    assert origin["skew_ms"] == (2000, "WATTLOG_SKEW_MS")
    assert origin["lateness_ms"] == (60000, "wattlog.toml")
    assert origin["data"] == (str(tmp_path / "d"), "option")
    assert origin["window_ms"] == (10000, "default")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("stream",), "kafka_bootstrap"),
        (("produce",), "--list"),
        (("produce", "nope"), "nvml, exporter, zeusd, host, servers"),
        (("replay", "azure", "absent.csv"), "absent.csv"),
        (("chargeback", "--data", "absent"), "wattlog demo"),
    ],
)
def test_a_command_that_cannot_run_prints_one_line_with_reason_and_fix(
    command: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    ran = wattlog(*command, cwd=tmp_path)
    assert ran.status == 2
    assert reason in ran.err
    assert "Traceback" not in ran.err


def test_requests_of_the_http_client_are_not_logged() -> None:
    logs = "import logging; logging.getLogger('httpx').info('GET'); logging.getLogger('producers').info('1 GPU')"
    ran = wattlog("config", fault=f"from cli.settings import set_up_logging; set_up_logging('INFO'); {logs}")
    assert "1 GPU" in ran.err
    assert "GET" not in ran.err
