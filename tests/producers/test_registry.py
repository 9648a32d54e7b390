"""Only a source's own folder and the registry name its modules, and no two modules import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from producers import registry
from tests.support.paths import ROOT

ROOMS = ("contracts", "producers", "streams", "warehouse", "api", "forecasting", "cli")
FOLDERS = sorted({entry.folder for entry in registry.BUILT_IN})
ALLOWED = {
    ("producers/receivers/litellm", "producers/gateways/litellm"): "the route reads what the callback's folder holds",
    ("producers/receivers/otlp", "producers/gateways/otel"): "the route reads what the topic holds",
    ("producers/receivers/otlp_signals", "producers/gateways/otel"): "an event of a call is read as its span",
    ("producers/servers", "producers/bindings/kubernetes"): "the same API server, and pods' names as their GPUs have",
    ("producers/boundary", "producers/host"): "the same counters, split over the GPUs' holders",
}
SIMULATION = "producers/simulation"
"""The demo sends its fleet's events and stores that fleet's prices."""


def modules() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, lazy and type-only ones included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_outside_a_sources_folder_names_its_modules(folder: str) -> None:
    package = folder.replace("/", ".")
    nested = [f"{other.replace('/', '.')}." for other in FOLDERS if other.startswith(folder + "/")]
    names = set()
    for name, path in modules():
        home = str(path.parent.relative_to(ROOT))
        if name == "producers.registry" or f"{home}/".startswith(f"{folder}/") or (home, folder) in ALLOWED:
            continue
        for imported in imports(path):
            if imported != package and imported.startswith(package + ".") and not imported.startswith(tuple(nested)):
                names.add((name, imported))
    shared = {"producers/bindings", "producers/boundary", "producers/servers", "producers/receivers", SIMULATION}
    if folder in shared:  # The kinds in a folder share its frame, not its plug-in.
        names = {(name, imported) for name, imported in names if imported.startswith(f"{package}.plugin")}
        names -= {(name, imported) for name, imported in names if name == "producers.runtime.agent_runner"}
        names -= {(name, imported) for name, imported in names if f"{name.replace('.', '/')}/".startswith(f"{folder}/")}
    assert names == set()


def test_no_two_modules_of_producers_import_in_a_circle() -> None:
    known = {name: path for name, path in modules() if name.startswith("producers")}
    graph = {name: {i for i in imports(path) if i in known and i != name} for name, path in known.items()}
    state: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        state[name] = 1
        stack.append(name)
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                circles.append([*stack[stack.index(other) :], other])
            elif other not in state:
                visit(other)
        stack.pop()
        state[name] = 2

    for name in sorted(graph):
        if name not in state:
            visit(name)
    assert circles == []
