"""Probes of `wattlog init` on real pages on loopback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.wiring.machine import GpuSource, Machine, ServerPage
from cli.wiring.probes import probe
from tests.support.http_server import Request, Response, serving

VLLM = """# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="llama"} 50
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="llama"} 5
"""
DCGM = """# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-1",modelName="NVIDIA H100"} 1000
"""
GATEWAY = """# TYPE litellm_input_tokens_metric_total counter
litellm_input_tokens_metric_total{team="acme",model="llama"} 50
# TYPE litellm_output_tokens_metric_total counter
litellm_output_tokens_metric_total{team="acme",model="llama"} 5
"""
PAGES = {
    "/metrics": VLLM,
    "/dcgm": DCGM,
    "/gateway": GATEWAY,
    "/both": VLLM + DCGM,
    "/other": "up 1\n",
    "/web": "<p>",
}


def answer(request: Request) -> Response | None:
    text = PAGES.get(request.path)
    return Response(404, b"") if text is None else Response(200, text.encode())


def seen_at(folder: Path, *addresses: str) -> Machine:
    return probe(addresses, folder=folder, ports=())


def test_a_page_is_recognised_by_its_samples(tmp_path: Path) -> None:
    with serving(answer) as url:
        machine = seen_at(tmp_path, url, f"{url}/dcgm")
    assert machine.servers == (ServerPage(f"{url}/metrics", "vllm", ("llama",)),)
    assert [s for s in machine.gpus if s.url] == [GpuSource("dcgm", 1, ("NVIDIA H100",), f"{url}/dcgm")]


def test_a_page_of_both_is_both(tmp_path: Path) -> None:
    with serving(answer) as url:
        machine = seen_at(tmp_path, f"{url}/both")
    assert len(machine.servers) == 1 and any(source.url for source in machine.gpus)


@pytest.mark.parametrize(
    ("path", "note"),
    [("/other", "begins with up"), ("/absent", "answers 404"), ("/web", "no page of metrics"), ("/gateway", "litellm")],
)
def test_any_other_address_is_named_in_one_line(tmp_path: Path, path: str, note: str) -> None:
    with serving(answer) as url:
        machine = seen_at(tmp_path, f"{url}{path}")
    assert not machine.servers
    [line] = [line for line in machine.notes if "NVML" not in line]
    assert path in line and note in line and "\n" not in line


def test_a_server_that_closes_the_connection_does_not_stop_the_others(tmp_path: Path) -> None:
    with serving(lambda _: None) as dead, serving(answer) as url:
        machine = seen_at(tmp_path, dead, url)
    assert len(machine.servers) == 1
    assert any(dead in line for line in machine.notes)


def test_a_port_without_a_listener_is_not_mentioned(tmp_path: Path) -> None:
    with serving(answer) as url:
        port = int(url.rpartition(":")[2])
    machine = probe((), folder=tmp_path, ports=(port,))
    assert not [line for line in machine.notes if "NVML" not in line]


def test_a_broken_gateway_file_is_named_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: 1")
    (tmp_path / "litellm.yaml").write_text("model_list: []")
    machine = seen_at(tmp_path)
    assert machine.gateway is not None and machine.gateway.path.endswith("litellm.yaml")
    assert any("config.yaml" in line for line in machine.notes)


def test_the_command_writes_a_private_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.wiring.probes.SERVER_PORTS", ())
    monkeypatch.setattr("cli.wiring.probes.EXPORTER_PORTS", ())
    path = tmp_path / "wattlog.toml"
    monkeypatch.setenv("WATTLOG_CONFIG", str(path))
    with serving(answer) as url:
        assert CliRunner().invoke(app, ["init", url, "--tenant", "acme"]).exit_code == 0
        assert 'tenant = "acme"' in path.read_text() and os.stat(path).st_mode & 0o777 == 0o600
        path.write_text("# mine")
        result = CliRunner().invoke(app, ["init", url])
        assert result.exit_code == 2 and "--force" in result.stderr and path.read_text() == "# mine"
        assert CliRunner().invoke(app, ["init", url, "--force"]).exit_code == 0
    assert "vllm" in path.read_text()
    assert CliRunner().invoke(app, ["config"]).exit_code == 0
