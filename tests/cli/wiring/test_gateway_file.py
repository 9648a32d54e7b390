"""LiteLLM's configuration file, as `wattlog init` reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.wiring.gateway_file import MAX_BYTES, parse_gateway_file, read_gateway_file
from cli.wiring.machine import GatewayModel
from contracts.errors import BadInput

FILE = b"""
model_list:
  - model_name: chat
    litellm_params: {model: hosted_vllm/meta-llama/Llama-3.1-8B, api_base: "http://vllm:8000/v1", api_key: sk-1234}
  - model_name: gpt
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}
  - {model_name: 7}
  - 12
"""


def test_models_are_read_without_their_provider() -> None:
    file = parse_gateway_file(FILE, "config.yaml")
    assert file.models == (
        GatewayModel("chat", "meta-llama/Llama-3.1-8B", "http://vllm:8000/v1"),
        GatewayModel("gpt", "gpt-4o"),
    )
    assert not file.counts_streams and not file.has_callback


def test_lines_that_are_there_are_recognised() -> None:
    settings = b"general_settings: {always_include_stream_usage: true}\nlitellm_settings:\n  callbacks: [wattlog]\n"
    file = parse_gateway_file(FILE + settings, "config.yaml")
    assert file.counts_streams and file.has_callback


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"model_list: [", "no YAML"),
        (b"\xff\xfe\xff", "no YAML"),
        (b"[" * 5_000, "no YAML"),
        (b"", "model_list"),
        (b"- 1", "model_list"),
        (b"model_list: 7", "model_list"),
    ],
)
def test_another_file_is_refused_by_name(content: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        parse_gateway_file(content, "config.yaml")


def test_an_error_shows_no_key_of_the_file() -> None:
    with pytest.raises(BadInput) as error:
        parse_gateway_file(b"model_list: [{api_key: sk-1234, : : ]", "config.yaml")
    assert "sk-1234" not in str(error.value)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(BadInput, match="larger"):
        read_gateway_file(path)
