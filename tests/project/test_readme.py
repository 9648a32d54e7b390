"""README.md is true: its commands and options exist, and its examples run as written and print what it shows.

Examples without network, Docker and Kafka run in order, in one folder. `make demo` is replaced by the command of its
target, without the installation. A block whose first line is ```sh needs=X is not run; X is the reason. ```sh
needs=recordings runs where the recordings are. A ```text block after a shell block is its output: each of its lines
must be printed, with `…` for any text. ```text sample may differ. A failure names the missing lines and shows the
output, for pasting.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.reference import GROUPS
from tests.project.fences import Block, blocks, command_lines, wattlog_words
from tests.project.tree import ROOT
from tests.support.waiting import HANG_S

BLOCKS = blocks((ROOT / "README.md").read_text("utf-8"))
NEEDS = {"network", "venv", "docker", "kubernetes", "kafka", "recordings"}
RECORDINGS = {
    "mlperf_gptj-99_Server": "power/mlperf_gptj-99_Server",
    "AzureLLMInferenceTrace_code.csv": "traces/AzureLLMInferenceTrace_code.csv",
}
_WATTLOG = [words for block in BLOCKS if block.is_shell for line in command_lines(block)
            if (words := wattlog_words(line)) is not None]  # fmt: skip


def test_the_requirement_of_a_block_is_known() -> None:
    assert {block.needs for block in BLOCKS} <= NEEDS | {""}


def _help(*command: str) -> str:
    code = "import sys; sys.argv[0] = 'wattlog'; from cli.main import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], cwd=ROOT, env={**os.environ, "COLUMNS": "200"},
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert process.returncode == 0, f"wattlog {' '.join(command)} --help:\n{process.stdout}{process.stderr}"
    return process.stdout


def _command(words: list[str]) -> tuple[str, ...]:
    return tuple(words[: 2 if words[0] in ("replay", *GROUPS) else 1])


@pytest.mark.parametrize("command", sorted({_command(words) for words in _WATTLOG}), ids=" ".join)
def test_a_command_has_the_options_used_with_it(command: tuple[str, ...]) -> None:
    options = {w.partition("=")[0] for words in _WATTLOG if _command(words) == command for w in words if w[:2] == "--"}
    assert options <= set(re.findall(r"--[a-z-]+", _help(*command)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the recordings, where available; and `wattlog` of this tree, which `make` runs."""
    root = tmp_path_factory.mktemp("newcomer")
    (root / "bin").mkdir()
    program = root / "bin" / "wattlog"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    (root / "bin" / "make").write_text('#!/bin/sh\ntest "$1" = demo && exec wattlog demo ${2#ARGS=}\n')
    (root / "bin" / "make").chmod(0o755)
    shared = Path(os.environ.get("WATTLOG_SHARED_DATA") or ROOT.parent / "shared" / "data")
    (root / "recordings").mkdir()
    for name, path in RECORDINGS.items():
        if (shared / path).exists():
            (root / "recordings" / name).symlink_to((shared / path).resolve())
    return root


def _run(block: Block, folder: Path) -> str:
    """Both output streams of the block. It must succeed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WATTLOG_", "COLUMNS"))}
    env |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "COLUMNS": "160", "WATTLOG_API_PORT": "0",
    }  # fmt: skip
    process = subprocess.run(
        ["bash", "-e"], input=block.body, cwd=folder, env=env, text=True, timeout=HANG_S, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.returncode == 0, f"{block.body}{process.stdout}"
    return process.stdout


def _not_printed(block: str, printed: str) -> Iterator[str]:
    """Lines of README that the command did not print; column widths do not matter."""
    lines = [re.sub(r"[\s─━]+", " ", line).strip() for line in printed.splitlines()]
    for line in block.splitlines():
        text = re.sub(r"[\s─━]+", " ", line).strip()
        pattern = ".*".join(re.escape(part.strip()) for part in text.split("…"))
        if text and not any(re.fullmatch(pattern, line) for line in lines):
            yield line


_RUN = [(i, b) for i, b in enumerate(BLOCKS) if b.is_shell and b.needs in ("", "recordings")]


@pytest.mark.slow
@pytest.mark.parametrize(("at", "block"), _RUN, ids=[(command_lines(b) or ["-"])[0][:60] for _, b in _RUN])
def test_a_block_runs_as_written_and_prints_what_is_shown(at: int, block: Block, folder: Path) -> None:
    if block.needs == "recordings" and len(list((folder / "recordings").iterdir())) < len(RECORDINGS):
        pytest.skip("the recordings of shared/data are not here: set WATTLOG_SHARED_DATA to their folder")
    printed = _run(block, folder)
    output = BLOCKS[at + 1] if at + 1 < len(BLOCKS) else None
    if output is not None and output.info == ("text",):
        missing = list(_not_printed(output.body, printed))
        assert not missing, "README.md shows what is not printed:\n" + "\n".join([*missing, "It printed:", printed])
