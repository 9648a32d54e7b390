"""`make` lists its targets, names a wrong Python, shows why an installation failed, and installs once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.tree import ROOT
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M)
PIP_LOG = '#!/bin/sh\necho "$@" >> calls\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files of `make`, and no virtual environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "pins", tmp_path / "pins")
    return tmp_path


def _make(folder: Path, *args: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    if path is not None:
        env["PATH"] = path
    make = shutil.which("make") or "make"
    return subprocess.run(
        [make, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=HANG_S, check=False
    )


def _environment(clone: Path, python: str) -> None:
    """A fake .venv whose Python is this shell script."""
    folder = clone / ".venv" / "bin"
    folder.mkdir(parents=True)
    (clone / ".venv" / ".made").touch()
    for name in ("python", "wattlog"):
        program = folder / name
        program.write_text(python)
        program.chmod(0o755)


def test_make_alone_lists_every_target(clone: Path) -> None:
    assert {"demo", "test", "test-all", "lint", "fmt", "typecheck", "bench", "constraints", "clean"} <= {*TARGETS}
    process = _make(clone)
    assert process.returncode == 0
    assert [line.split()[0] for line in process.stdout.splitlines()[1:]] == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_documented_and_can_be_read(target: str, clone: Path) -> None:
    assert _make(clone, "--dry-run", target).returncode == 0


def test_a_python_that_is_too_old_is_named_with_the_fix(clone: Path) -> None:
    old = clone / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    process = _make(clone, "demo", f"PYTHON={old}")
    assert process.returncode != 0
    assert "needs Python 3.11 or newer" in process.stderr
    assert f"{old}" in process.stderr
    assert "make PYTHON=" in process.stderr


def test_a_python_without_ensurepip_names_the_package_to_install(clone: Path) -> None:
    bare = clone / "python3"
    bare.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *print*) echo python3.12-venv;; esac\n')
    bare.chmod(0o755)
    process = _make(clone, "demo", f"PYTHON={bare}")
    assert process.returncode != 0
    assert "apt-get install python3.12-venv" in process.stderr


def test_a_failed_installation_shows_pips_output_and_is_repeated(clone: Path) -> None:
    _environment(clone, '#!/bin/sh\necho "$@" >> calls\necho "ERROR: no such wheel"\nexit 1\n')
    for _ in range(2):
        process = _make(clone, "demo")
        assert process.returncode != 0
        assert "ERROR: no such wheel" in process.stderr
        assert ".venv/install.log" in process.stderr
    assert len((clone / "calls").read_text().splitlines()) == 2


def test_a_second_run_installs_nothing_until_the_pins_change(clone: Path) -> None:
    _environment(clone, PIP_LOG)

    def installs() -> int:
        assert _make(clone, "demo").returncode == 0
        return sum(line.startswith("-m pip install") for line in (clone / "calls").read_text().splitlines())

    assert installs() == 1
    assert installs() == 1
    later = (clone / ".venv" / ".server").stat().st_mtime + 5
    os.utime(clone / "constraints.txt", (later, later))
    assert installs() == 2


def test_a_locked_installation_takes_only_files_whose_hashes_are_known(clone: Path) -> None:
    _environment(clone, PIP_LOG)
    assert _make(clone, "demo", "LOCKED=1").returncode == 0
    installs = [line for line in (clone / "calls").read_text().splitlines() if "pip install" in line]
    assert [re.findall(r"--require-hashes -r (\S+)", line) for line in installs] == [
        ["pins/build.txt"], ["pins/server.txt"], []
    ]  # fmt: skip
    assert installs[-1].endswith("--no-deps --no-build-isolation -e .")


def test_the_demo_gets_its_arguments(clone: Path) -> None:
    _environment(clone, PIP_LOG)
    assert _make(clone, "demo", "ARGS=--exit --json").returncode == 0
    assert (clone / "calls").read_text().splitlines()[-1] == "demo --exit --json"


def test_an_installation_for_tests_serves_the_demo_too(clone: Path) -> None:
    _environment(clone, PIP_LOG)
    assert _make(clone, "test").returncode == 0
    assert _make(clone, "demo").returncode == 0
    assert sum(line.startswith("-m pip install") for line in (clone / "calls").read_text().splitlines()) == 1
