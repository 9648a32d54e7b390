"""README.md tells the truth: every command and option in it exists, and what runs without network, Docker and Kafka is
run as written, in order, in one folder; what it prints must be what README shows.

`make demo` is what its target runs, without the installation. A block whose first line is ```sh needs=X is not run, X
saying why; ```sh needs=recordings is, where the recordings are. A ```text block after a shell block is its output: each
of its lines must be printed, `…` standing for anything; ```text sample is an example that may differ. A failure names
the lines that are not printed, and shows what was: paste it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_what_a_block_needs_is_one_of_the_words_that_this_test_knows() -> None:
    assert {block.needs for block in BLOCKS} <= NEEDS | {""}


def _help(*command: str) -> str:
    code = "import sys; sys.argv[0] = 'wattlog'; from cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], cwd=ROOT, env={**os.environ, "COLUMNS": "200"},
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"wattlog {' '.join(command)} --help:\n{done.stdout}{done.stderr}"
    return done.stdout


def _command(words: list[str]) -> tuple[str, ...]:
    return tuple(words[: 2 if words[0] == "replay" else 1])


@pytest.mark.parametrize("command", sorted({_command(words) for words in _WATTLOG}), ids=" ".join)
def test_a_command_has_the_options_that_are_given_to_it(command: tuple[str, ...]) -> None:
    given = {w.partition("=")[0] for words in _WATTLOG if _command(words) == command for w in words if w[:2] == "--"}
    assert given <= set(re.findall(r"--[a-z-]+", _help(*command)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the recordings, where they are here; and `wattlog` of this very tree, which `make` runs."""
    made = tmp_path_factory.mktemp("newcomer")
    (made / "bin").mkdir()
    program = made / "bin" / "wattlog"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    (made / "bin" / "make").write_text('#!/bin/sh\ntest "$1" = demo && exec wattlog demo ${2#ARGS=}\n')
    (made / "bin" / "make").chmod(0o755)
    shared = Path(os.environ.get("WATTLOG_SHARED_DATA") or ROOT.parent / "shared" / "data")
    (made / "recordings").mkdir()
    for name, path in RECORDINGS.items():
        if (shared / path).exists():
            (made / "recordings" / name).symlink_to((shared / path).resolve())
    return made


def _run(block: Block, folder: Path) -> str:
    """What the block prints, both streams. It must succeed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WATTLOG_", "COLUMNS"))}
    env |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "COLUMNS": "160", "WATTLOG_API_PORT": "0",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e"], input=block.body, cwd=folder, env=env, text=True, timeout=HANG_S, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.body}{done.stdout}"
    return done.stdout


def _not_printed(shown: str, printed: str) -> Iterator[str]:
    """Lines of README that the command did not print; widths of columns do not matter."""
    lines = [re.sub(r"[\s─━]+", " ", line).strip() for line in printed.splitlines()]
    for line in shown.splitlines():
        wanted = re.sub(r"[\s─━]+", " ", line).strip()
        pattern = ".*".join(re.escape(part.strip()) for part in wanted.split("…"))
        if wanted and not any(re.fullmatch(pattern, line) for line in lines):
            yield line


_RUN = [(i, b) for i, b in enumerate(BLOCKS) if b.is_shell and b.needs in ("", "recordings")]


@pytest.mark.slow
@pytest.mark.parametrize(("at", "block"), _RUN, ids=[(command_lines(b) or ["-"])[0][:60] for _, b in _RUN])
def test_a_block_runs_as_written_and_prints_what_is_shown(at: int, block: Block, folder: Path) -> None:
    if block.needs == "recordings" and len(list((folder / "recordings").iterdir())) < len(RECORDINGS):
        pytest.skip("the recordings of shared/data are not here: set WATTLOG_SHARED_DATA to their folder")
    printed = _run(block, folder)
    shown = BLOCKS[at + 1] if at + 1 < len(BLOCKS) else None
    if shown is not None and shown.info == ("text",):
        missing = list(_not_printed(shown.body, printed))
        assert not missing, "README.md shows what is not printed:\n" + "\n".join([*missing, "It printed:", printed])
