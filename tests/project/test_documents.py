"""Documents are true: links lead to files, and the targets and commands that they name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.project.fences import blocks, command_lines
from tests.project.tree import ROOT, texts
from tests.support.waiting import HANG_S

DOCUMENTS = texts(".md")


def _command_lines() -> list[tuple[str, str]]:
    """(document, line) of every command in a shell block."""
    return [
        (str(path), line)
        for path, text in DOCUMENTS.items()
        for block in blocks(text)
        if block.is_shell
        for line in command_lines(block)
    ]


def test_every_relative_link_leads_to_a_file() -> None:
    broken = []
    for path, text in DOCUMENTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
                continue
            if not (ROOT / path.parent / unquote(target.partition("#")[0])).exists():
                broken.append((str(path), target))
    assert not broken


def test_no_command_sends_a_fixed_time_that_a_receiver_soon_refuses_as_too_old() -> None:
    """Receivers refuse what ended more than `max_age_ms` ago, so such a command works for two days."""
    blocks_that_send = [
        (str(path), block.body) for path, text in DOCUMENTS.items() for block in blocks(text)
        if block.is_shell and re.search(r"curl\b.*(--data|-d )", block.body)
    ]  # fmt: skip
    assert blocks_that_send
    assert not [path for path, body in blocks_that_send if re.search(r"20\d\d-\d\d-\d\dT", body)]


def test_every_named_make_target_exists() -> None:
    have = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {(path, t) for path, line in _command_lines() for t in re.findall(r"^make ([a-z-]+)", line)}
    named |= {(str(path), t) for path, text in DOCUMENTS.items() for t in re.findall(r"`make ([a-z-]+)", text)}
    assert not {(path, target) for path, target in named if target not in have}


def _named_commands() -> set[str]:
    """`wattlog X` in documents, and the arguments of containers in compose and Kubernetes."""
    named = {m for _, line in _command_lines() for m in re.findall(r"(?:^|/)wattlog ([a-z][a-z-]*)", line)}
    named |= {m for text in DOCUMENTS.values() for m in re.findall(r"`wattlog ([a-z][a-z-]*)", text)}
    deploy = [ROOT / "docker-compose.yml", *(ROOT / "k8s").glob("*/*.yaml")]
    named |= {
        m for path in deploy for m in re.findall(r"^\s+(?:command|args): \[([a-z]+)", path.read_text("utf-8"), re.M)
    }
    return named


@pytest.mark.parametrize("command", sorted(_named_commands()))
def test_every_named_command_exists(command: str) -> None:
    code = "import sys; from cli.main import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", code, command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert process.returncode == 0, f"wattlog {command} --help:\n{process.stdout}{process.stderr}"


def test_a_nodes_agent_starts_without_the_servers_packages() -> None:
    """The agent's image has neither chdb nor Faust nor pandas: `wattlog produce` must not import them."""
    absent = [
        "chdb",
        "faust",
        "clickhouse_connect",
        "fastapi",
        "uvicorn",
        "pandas",
        "statsmodels",
        "pyarrow",
        "jwt",
        "cryptography",
        "opentelemetry",
        "google",
    ]
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"an agent has no {{name}}")
sys.meta_path.insert(0, Absent())
import producers.gpu.nvml.sensor
from producers import registry
list(registry.options()), list(registry.plugins())
from cli.main import main
sys.argv = ["wattlog", "produce", "--help"]
sys.exit(main())
"""
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert process.returncode == 0, process.stderr


def test_there_are_documents_to_check() -> None:
    assert {Path("docs/settings.md")} <= DOCUMENTS.keys()
