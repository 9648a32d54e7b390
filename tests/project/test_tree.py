"""The whole tree: style, types, imports between the rooms, pins, and no trace of the machine that it was written on."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project.tree import ROOT, texts
from tests.support.waiting import HANG_S

BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _passes(*command: str) -> None:
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert process.returncode == 0, f"{process.stdout}\n{process.stderr}"


def test_ruff_finds_nothing() -> None:
    _passes(sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", ".")


def test_the_code_is_formatted() -> None:
    _passes(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.slow
def test_types_hold_strictly_in_every_room() -> None:
    _passes(sys.executable, "-m", "mypy")


def test_rooms_import_in_the_permitted_directions() -> None:
    _passes(str(BIN / "lint-imports"), "--no-logo", "--no-cache")


def test_no_test_measures_time() -> None:
    """A test waits for conditions (tests/support/waiting.py) and counts work (tests/support/work.py)."""
    timers = re.compile("perf_" + "counter|process_" + r"time\(|mark\.time" + "out")
    tests = (ROOT / "tests").rglob("test_*.py")
    assert not [str(path.relative_to(ROOT)) for path in tests if timers.search(path.read_text("utf-8"))]


# In parts, so that this file does not contain the forbidden text.
_MACHINE = ("/" + "work/", "/" + "tmp/v/", "/" + "tmp/x/", "/opt/" + "wheels", "/root/" + ".pyenv")
_HOME = re.compile(r"/(?:home|Users)/" + r"[a-z][\w.-]*/")
_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("repo", "maven"), ("repo1", "maven"), ("deb", "debian"),
        ("security", "debian"), ("golang", "org/proxy"), ("proxy", "golang"), ("registry", "npmjs"),
    )
)  # fmt: skip


def test_no_file_names_the_machine_that_it_was_written_on() -> None:
    matches = [
        (str(path), word)
        for path, text in texts().items()
        for word in (*_MACHINE, *_HOME.findall(text))
        if word in text
    ]
    assert not matches


def test_no_file_names_a_registrys_host() -> None:
    matches = [(str(path), host) for path, text in texts().items() for host in _HOSTS if host in text]
    assert not matches


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {_plain(name): version for name, version in pins.items()}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_REQUIREMENTS = [
    *PROJECT["project"]["dependencies"],
    *(d for e in PROJECT["project"]["optional-dependencies"].values() for d in e),
]


@pytest.mark.parametrize("needed", sorted(set(_REQUIREMENTS)))
def test_a_pin_satisfies_its_requirement(needed: str) -> None:
    requirement = Requirement(needed)
    pin = _pins().get(_plain(requirement.name))
    assert pin is not None, "run: make constraints"
    assert requirement.specifier.contains(pin), f"constraints.txt has {pin}; run: make constraints"


def test_pins_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    malformed = [
        line for line in lines if not line.startswith("#") and not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.+!]*", line)
    ]
    assert not malformed


def test_the_licence_is_that_of_the_package() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
