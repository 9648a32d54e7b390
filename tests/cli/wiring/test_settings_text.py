"""The settings file that `wattlog init` writes: from findings to text that every option accepts."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.wiring.advice import advice
from cli.wiring.machine import (
    NVML,
    GatewayFile,
    GatewayModel,
    GpuSource,
    Machine,
    ServerPage,
    backend_of,
    served_models,
    workload_name,
)
from cli.wiring.settings_text import settings_text
from contracts import topics
from contracts.settings import Settings
from producers import registry
from producers.runtime.config import load

Read = Callable[[Machine], dict[str, Any]]
DRIVER = GpuSource(NVML, 8, ("NVIDIA H100 80GB HBM3",))
DCGM = GpuSource("dcgm", 8, ("NVIDIA H100 80GB HBM3",), "http://127.0.0.1:9400/metrics")
LLAMA = ServerPage("http://127.0.0.1:8000/metrics", "vllm", ("meta-llama/Llama-3.1-8B",))
QWEN = ServerPage("http://127.0.0.1:8001/metrics", "sglang", ("Qwen/Qwen3-8B",))
CHAT = GatewayModel("chat", "meta-llama/Llama-3.1-8B", "http://localhost:8000/v1")
GPT = GatewayModel("gpt", "gpt-4o")


def text_of(machine: Machine) -> str:
    return settings_text(machine, cluster="east", tenant="acme", folder="/srv")


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Write the file, load every setting and option from it, and return its tables."""

    def write(machine: Machine) -> dict[str, Any]:
        path = tmp_path / "wattlog.toml"
        path.write_text(text_of(machine), "utf-8")
        monkeypatch.setenv("WATTLOG_CONFIG", str(path))
        assert Settings().cluster == "east"
        for options in registry.options():
            load(options)
        return tomllib.loads(path.read_text("utf-8"))

    return write


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine((DRIVER,), (LLAMA,)),
        Machine((DCGM,), (LLAMA, QWEN)),
        Machine((DCGM, DRIVER), (LLAMA,), GatewayFile("config.yaml", (CHAT, GPT, CHAT))),
        Machine((), (), GatewayFile("config.yaml", (CHAT,))),
    ],
)
def test_every_option_accepts_the_file(read: Read, machine: Machine) -> None:
    assert read(machine)["cluster"] == "east"


def test_one_server_has_all_gpus_of_the_node(read: Read) -> None:
    file = read(Machine((DRIVER,), (LLAMA,)))
    assert (file["workload"], file["owner"]) == ("llama-3.1-8b", "acme")
    assert file["produce"] == {
        "servers": {"tenant": "acme", "at": [{"url": LLAMA.url, "server": "vllm", "workload": "llama-3.1-8b"}]}
    }


def test_the_driver_is_read_before_an_exporter(read: Read) -> None:
    assert read(Machine((DCGM,)))["produce"]["exporter"] == {"url": DCGM.url, "kind": "dcgm"}
    assert "produce" not in read(Machine((DCGM, DRIVER)))


def test_several_servers_have_the_gpus_that_their_processes_compute_on(read: Read) -> None:
    file = read(Machine((DRIVER,), (LLAMA, QWEN)))
    assert "workload" not in file
    assert file["produce"]["bindings"]["rules"] == [
        {"command": "*meta-llama/Llama-3.1-8B*", "workload": "llama-3.1-8b"},
        {"command": "*Qwen/Qwen3-8B*", "workload": "qwen3-8b"},
    ]


def test_a_name_that_is_part_of_another_has_its_rule_behind_it(read: Read) -> None:
    chat, large = (
        ServerPage(f"http://127.0.0.1:{n}/metrics", "vllm", (name,)) for n, name in ((1, "chat"), (2, "chat-large"))
    )
    rules = read(Machine((DRIVER,), (chat, large)))["produce"]["bindings"]["rules"]
    assert [rule["workload"] for rule in rules] == ["chat-large", "chat"]


@pytest.mark.parametrize(
    ("model", "name"),
    [("/mnt/Qwen1.5-14B-Chat/", "qwen1.5-14b-chat"), ("org/Model A", "model-a"), ("~x", "x"), ("", "vllm")],
)
def test_a_workload_is_named_for_its_model(model: str, name: str) -> None:
    assert workload_name(ServerPage("http://h/", "vllm", (model,))) == name


def test_tokens_behind_a_gateway_count_at_the_gateway_only(read: Read) -> None:
    produce = read(Machine((DRIVER,), (LLAMA, QWEN), GatewayFile("config.yaml", (CHAT, GPT))))["produce"]
    assert [at.get("count") for at in produce["servers"]["at"]] == ["compare", None]
    assert produce["litellm"] == {
        "folder": "/srv/.wattlog/litellm",
        "deployments": [{"route": "chat", "workload": "llama-3.1-8b"}],
    }


def test_a_route_with_a_backend_elsewhere_has_a_rule_by_address(read: Read) -> None:
    fallback = GatewayModel("chat", "gpt-4o")
    produce = read(Machine((DRIVER,), (LLAMA,), GatewayFile("config.yaml", (CHAT, fallback))))["produce"]
    assert produce["litellm"]["deployments"] == [
        {"route": "chat", "api_base": "http://localhost:8000/v1*", "workload": "llama-3.1-8b"}
    ]


@pytest.mark.parametrize(
    ("model", "workload"),
    [
        (CHAT, "llama-3.1-8b"),
        (GatewayModel("a", "x", "http://vllm:8001"), "qwen3-8b"),
        (GatewayModel("a", "Qwen/Qwen3-8B", "os.environ/BASE"), "qwen3-8b"),
        (GatewayModel("a", "Qwen/Qwen3-8B"), "qwen3-8b"),
        (GPT, None),
        (GatewayModel("a", "x", "http://127.0.0.1:8000x/"), None),
    ],
)
def test_a_gateways_model_belongs_to_a_server_by_address_port_or_model(model: GatewayModel, workload: str) -> None:
    backend = backend_of(model, served_models([LLAMA, QWEN]))
    assert (backend and backend.workload) == workload


def test_two_servers_of_one_model_are_different_workloads() -> None:
    twin = ServerPage("http://127.0.0.1:8001/metrics", "vllm", LLAMA.models)
    assert [s.workload for s in served_models([LLAMA, twin])] == ["llama-3.1-8b-8000", "llama-3.1-8b-8001"]


TEXT = st.text(max_size=40)


@given(st.builds(ServerPage, url=TEXT.map(lambda t: f"http://h/{t}"), server=st.just("vllm"), models=st.tuples(TEXT)))
def test_any_model_gives_a_name_that_the_ledger_takes(page: ServerPage) -> None:
    assert topics.check_name("workload", workload_name(page))


@given(TEXT, TEXT, TEXT)
def test_any_text_from_outside_leaves_valid_toml(url: str, model: str, route: str) -> None:
    page = ServerPage(f"http://h/{url}", "vllm", (model,))
    gateway = GatewayFile("c.yaml", (GatewayModel(route, model), GatewayModel(f"{route}2", "")))
    file = tomllib.loads(text_of(Machine((DRIVER,), (page,), gateway)))
    assert file["produce"]["servers"]["at"][0]["url"] == page.url


COUNTING = "--enable-prompt-tokens-details"
STREAMS, CALLBACK = "always_include_stream_usage: true", 'callbacks: ["wattlog_callback.wattlog"]'


@pytest.mark.parametrize(
    ("machine", "lines"),
    [
        (Machine(), set()),
        (Machine((), (LLAMA,)), {COUNTING}),
        (Machine((), (QWEN,), GatewayFile("c.yaml")), {STREAMS, CALLBACK}),
        (Machine((), (), GatewayFile("c.yaml", (), True, False)), {CALLBACK}),
        (Machine((), (), GatewayFile("c.yaml", (), True, True)), set()),
    ],
)
def test_only_lines_that_apply_are_printed(machine: Machine, lines: set[str]) -> None:
    text = "\n".join(advice(machine, folder="/srv", callback="/lib/callback.py"))
    assert {line for line in (COUNTING, STREAMS, CALLBACK) if line in text} == lines


def test_printed_commands_survive_spaces_and_quotes_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "my data 'x' ü"
    folder.mkdir()
    (folder / "callback.py").write_text("")
    machine = Machine((), (), GatewayFile(f"{folder}/config.yaml"))
    lines = list(advice(machine, folder=str(folder), callback=str(folder / "callback.py")))
    commands = [line for line in lines if line.startswith(("  cp ", "  echo "))]
    subprocess.run(["sh", "-ec", "\n".join(commands)], check=True)
    [line] = (folder / "wattlog_callback.py").read_text("utf-8").splitlines()
    assert ast.literal_eval(line.partition("(")[2].rstrip(")")) == f"{folder}/.wattlog/litellm"
