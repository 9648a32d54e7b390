"""`wattlog replay prometheus`: a history becomes a ledger; secrets go with the questions and are not shown."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.cli.conftest import wattlog
from tests.producers.recordings.prometheus.history import ENERGY, T0, steady
from tests.producers.recordings.prometheus.stand_in import StandIn

RANGE = ("--from", str(T0), "--to", str(T0 + 600), "--step", "30s")


@pytest.fixture
def server() -> StandIn:
    server = StandIn()
    server.add(ENERGY, steady(), UUID="GPU-a", Hostname="n1", exported_namespace="acme")
    server.add(ENERGY, steady(watts=100), UUID="GPU-b", Hostname="n2")
    return server


@pytest.fixture
def url(server: StandIn) -> Iterator[str]:
    with server.serving() as url:
        yield url


def refuse(folder: Path, url: str, *args: str) -> str:
    """Run a replay in this process that must end with status 2; return what it prints on stderr."""
    result = CliRunner().invoke(app, ["replay", "prometheus", url, *RANGE, *args, "--data", str(folder / "data")])
    assert (result.exit_code, result.stdout) == (2, "")
    return " ".join(result.stderr.split())


@pytest.mark.slow
def test_a_history_becomes_a_ledger_and_its_download_is_removed(url: str, tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")
    names = ("--cluster", "east", "--workload", "gpus", "--owner-label", "exported_namespace")
    ran = wattlog("replay", "prometheus", url, *RANGE, *names, *data, "--json", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert (ran.json["cluster"], ran.json["energy_uj"], ran.json["residual_uj"]) == ("east", 400 * 600 * 1_000_000, 0)
    assert list((tmp_path / "data/history").iterdir()) == []
    charged = wattlog("chargeback", "--period", "all", "--json", *data, cwd=tmp_path)
    energy_uj = {row["tenant"]: row["energy_uj"] for row in charged.json["rows"]}
    assert energy_uj == {"acme": 300 * 600 * 1_000_000, "__idle__": 100 * 600 * 1_000_000}


@pytest.mark.slow
def test_requests_of_a_file_bear_the_energy_of_their_workload(url: str, tmp_path: Path) -> None:
    data, tokens = ("--data", tmp_path / "data"), tmp_path / "requests.csv"
    spans = [(T0, T0 + 300, "acme"), (T0 + 300, T0 + 600, "globex"), (T0 - 9, T0 - 8, "initech")]
    rows = "".join(f"{a},{b},{tenant},100,50\n" for a, b, tenant in spans)
    tokens.write_text(f"start,end,tenant,prompt_tokens,completion_tokens\n{rows}")
    options = ("--cluster", "east", "--workload", "chat", "--tokens", tokens, "--model", "m")
    ran = wattlog("replay", "prometheus", url, *RANGE, *options, *data, "--json", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert (ran.json["requests"], ran.json["prompt_tokens"], ran.json["dead_letters"]) == (2, 200, 0)
    assert ran.json["joules_per_token"] == 400 * 600 / 300
    charged = wattlog("chargeback", "--period", "all", "--json", *data, cwd=tmp_path)
    assert {row["tenant"]: row["energy_uj"] for row in charged.json["rows"]} == {
        "acme": 400 * 300 * 1_000_000, "globex": 400 * 300 * 1_000_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--format", "dgcm"), "use one of dcgm, nvidia_gpu_exporter"),
        (("--step", "soon"), "30s, 1m, 1h"),
        (("--param", "x"), "NAME=VALUE"),
        (("--user", "u"), "--password-file"),
        (("--bearer-file", "missing"), "cannot be read"),
        (("--match", "gpu"), "LABEL=VALUE"),
        (("--format", "kepler"), "kepler_node_gpu_joules_total or kepler_node_gpu_watts"),
    ],
)
def test_a_wrong_option_ends_with_status_2_and_what_is_right(
    url: str, tmp_path: Path, args: tuple[str, ...], text: str
) -> None:
    assert text in refuse(tmp_path, url, *args)


@pytest.mark.parametrize("kind", ["bearer file", "bearer variable", "basic", "header"])
def test_secrets_and_headers_go_with_the_questions_and_are_not_shown(
    server: StandIn, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    secret = str(tmp_path / "secret")
    server.faults = [(401, "no")]
    args, environment, header = {
        "bearer file": (("--bearer-file", secret), {}, ("authorization", "Bearer s3cret")),
        "bearer variable": ((), {"WATTLOG_PROMETHEUS_BEARER": "s3cret"}, ("authorization", "Bearer s3cret")),
        "basic": (
            ("--user", "u", "--password-file", secret), {},
            ("authorization", f"Basic {base64.b64encode(b'u:s3cret').decode()}"),
        ),
        "header": (("--header", "X-Scope-OrgID=s3cret"), {}, ("x-scope-orgid", "s3cret")),
    }[kind]  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    err = refuse(tmp_path, url, *args)
    assert "answers 401" in err
    assert server.headers[0][header[0]] == header[1]
    assert "s3cret" not in err
