"""Settings: the environment overrides the file, the file overrides the defaults. Unknown or invalid ones are errors."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from contracts.settings import Settings


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Hide the settings of the machine that runs the test."""

    for name in [n for n in os.environ if n.startswith("WATTLOG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_apply_without_settings():
    s = Settings()
    assert (s.window_ms, s.lateness_ms, s.skew_ms, s.idle_policy) == (10_000, 120_000, 5_000, "by-work")


def test_the_file_in_the_working_directory_overrides_the_default(tmp_path):
    (tmp_path / "wattlog.toml").write_text("window_ms = 60000\n")
    assert Settings().window_ms == 60_000


def test_the_file_may_be_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "wattlog.toml").write_text("window_ms = 60000\n")
    (tmp_path / "other.toml").write_text("window_ms = 30000\n")
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "other.toml"))
    assert Settings().window_ms == 30_000


def test_the_environment_overrides_the_file(tmp_path, monkeypatch):
    (tmp_path / "wattlog.toml").write_text('window_ms = 60000\nnode = "from-file"\n')
    monkeypatch.setenv("WATTLOG_WINDOW_MS", "20000")
    assert (Settings().window_ms, Settings().node) == (20_000, "from-file")


def test_an_argument_overrides_the_rest(monkeypatch):
    monkeypatch.setenv("WATTLOG_WINDOW_MS", "20000")
    assert Settings(window_ms=5_000).window_ms == 5_000


def test_an_unknown_setting_in_the_file_is_an_error(tmp_path):
    (tmp_path / "wattlog.toml").write_text("windowms = 60000\n")
    with pytest.raises(ValidationError, match="windowms"):
        Settings()


def test_an_unknown_argument_is_an_error():
    with pytest.raises(ValidationError, match="windowms"):
        Settings(windowms=1)


@pytest.mark.parametrize("window_ms", [7_000, 11_000, 3_599_999])
def test_a_window_must_divide_an_hour(window_ms):
    with pytest.raises(ValidationError, match=f"{window_ms} does not divide an hour; try 10000"):
        Settings(window_ms=window_ms)


@pytest.mark.parametrize("window_ms", [1_000, 10_000, 60_000, 3_600_000])
def test_a_window_that_divides_an_hour_is_valid(window_ms):
    assert Settings(window_ms=window_ms).window_ms == window_ms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window_ms", 999), ("window_ms", 3_600_001), ("lateness_ms", -1), ("skew_ms", 600_001),
        ("kafka_partitions", 0),
        ("kafka_partitions", 1_025), ("sample_hz", 0), ("sample_hz", 11), ("api_port", 65_536), ("currency", "usd"),
        ("idle_policy", "whoever"), ("kafka_security_protocol", "TLS"), ("max_open_rows", 1), ("batch_messages", 0),
    ],
)  # fmt: skip
def test_a_value_out_of_its_bounds_is_an_error_that_names_it(name, value):
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})


def test_settings_are_immutable():
    with pytest.raises(ValidationError):
        Settings().window_ms = 1_000


def test_secrets_are_hidden():
    s = Settings(kafka_password="hunter2", warehouse_password="hunter2", api_jwt_key="hunter2")
    assert "hunter2" not in repr(s) + str(s.model_dump())


def test_the_embedded_warehouse_is_under_data(tmp_path):
    assert Settings(data=tmp_path).dsn == f"chdb://{tmp_path / 'warehouse'}"
    assert Settings(warehouse_dsn="http://ch:8123/w").dsn == "http://ch:8123/w"


def test_the_broker_is_embedded_unless_one_is_named():
    assert Settings().embedded_broker
    assert not Settings(kafka_bootstrap="kafka:9092").embedded_broker
