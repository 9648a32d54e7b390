"""Supply chain: installed packages are fixed by hash, listed in an SBOM, and searched for known weaknesses."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.project.tree import ROOT
from tests.support.waiting import HANG_S

PINS = ROOT / "pins"
LOCKED = sorted(path.name for path in PINS.glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = {"agent.txt": ("agent",), "server.txt": ("server",), "dev.txt": ("server", "dev")}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package in a file of pins/."""
    text = (PINS / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    entries = {}
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        (pin,) = (parsed := Requirement(requirement)).specifier
        assert pin.operator == "=="
        entries[_plain(parsed.name)] = (pin.version, hashes)
    return entries


def _constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {_plain(name): version for name, version in pairs}


@pytest.mark.parametrize("name", LOCKED)
def test_each_package_has_a_version_and_hashes_of_its_files(name: str) -> None:
    entries = _entries(name)
    assert entries
    for version, hashes in entries.values():
        assert version
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_pins_with_hashes_have_what_the_project_needs_in_the_versions_of_the_tests(name: str) -> None:
    entries, tested = _entries(name), _constraints()
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *(d for extra in EXTRAS[name] for d in extras[extra])]
    assert {_plain(Requirement(d).name) for d in needed} <= entries.keys(), "run: make constraints"
    assert {n: v for n, (v, _) in entries.items() if tested.get(n, v) != v} == {}, "run: make constraints"


def test_the_build_system_is_pinned_too() -> None:
    required = {_plain(Requirement(r).name) for r in PROJECT["build-system"]["requires"]}
    assert required <= _entries("build.txt").keys()
    written = (PINS / "build.in").read_text("utf-8").splitlines()
    assert set(PROJECT["build-system"]["requires"]) <= set(written)


def test_ci_installs_by_hash_and_searches_for_weaknesses_and_keeps_the_sbom() -> None:
    assert "make .venv/.dev LOCKED=1" in (ROOT / ".ci" / "run").read_text("utf-8")
    steps = _workflow()["jobs"]["supply-chain"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make audit-dependencies", "make sbom LOCKED=1"]
    assert steps[-1]["with"]["path"] == "build/sbom.json"


def test_actions_are_fixed_by_commit() -> None:
    uses = [step["uses"] for job in _workflow()["jobs"].values() for step in job["steps"] if "uses" in step]
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in uses)


def _workflow() -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    return workflow


# The programs themselves


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of pins/tools.txt, installed as `make` does."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], timeout=HANG_S, check=True)
    command = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        PINS / "tools.txt",
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    if process.returncode and "No matching distribution" in process.stderr:
        pytest.skip("needs a package index")
    assert process.returncode == 0, process.stderr
    return folder / "bin"


def _recipe(target: str, tools: Path) -> list[str]:
    """The first command of a target of the Makefile, with this environment's programs."""
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert recipe is not None
    line = recipe[1].replace("\\\n", " ").strip().splitlines()[0].removeprefix("@")
    line = line.replace("build/tools/bin", str(tools)).replace("$(BIN)/python", sys.executable).replace("$(ARGS)", "")
    return shlex.split(line)


@pytest.mark.slow
def test_the_sbom_names_what_is_installed_and_follows_its_schema(tools: Path, tmp_path: Path) -> None:
    """`--validate` checks it by CycloneDX's JSON schema."""
    written = tmp_path / "sbom.json"
    command = [str(written) if word == "build/sbom.json" else word for word in _recipe("sbom", tools)]
    assert "--validate" in command
    subprocess.run(command, cwd=ROOT, timeout=HANG_S, check=True)
    sbom = json.loads(written.read_text("utf-8"))
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "wattlog"
    installed = {_plain(component["name"]): component["version"] for component in sbom["components"]}
    assert {name: installed.get(name) for name in ("faust-streaming", "confluent-kafka", "fastapi")} == {
        name: _constraints()[name] for name in ("faust-streaming", "confluent-kafka", "fastapi")
    }


@pytest.mark.slow
def test_the_search_for_weaknesses_reads_every_pin(tools: Path) -> None:
    """`--dry-run` reads the files and asks no server."""
    command = [*_recipe("audit-dependencies", tools), "--dry-run"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert process.returncode == 0, process.stderr
    assert re.search(r"would have audited \d+ packages", process.stderr)
