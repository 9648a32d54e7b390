"""References lead to something: named files and modules exist, and imports make no circles."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.project.tree import ROOT, texts

ROOMS = ("contracts", "access", "billing", "producers", "streams", "warehouse", "forecasting", "api", "cli")
ROOTS = (*ROOMS, "bench", "tests", "docs", "k8s")
_PATH = re.compile(
    r"(?<![\w./<{-])((?:" + "|".join(ROOTS) + r")(?:/[\w.-]+)+\.(?:py|md|sql|toml|ya?ml|svg|png|proto))\b"
)
_DOCUMENT = re.compile(r"(?<![\w/.-])([A-Z][A-Z_]{3,}\.md)\b")
_ADR = re.compile(r"\bdocs/adr/(\d{4})(?![\d\w-])")


def _is_frozen(path: Path) -> bool:
    """Return whether a file keeps old names: the changelog, and migrations, whose checksums are stored."""
    return path.name == "CHANGELOG.md" or path.parts[:2] == ("warehouse", "migrations")


def test_every_named_file_exists() -> None:
    dangling = [
        f"{path}: {name}"
        for path, text in texts().items()
        if not _is_frozen(path)
        for name in _PATH.findall(text)
        if not any((folder / name).exists() for folder in (ROOT, ROOT / path.parent, ROOT / "docs"))
    ]
    assert not dangling


OF_THE_RECORDINGS = {"SOURCES.md"}
"""Documents that come with the recordings, outside of this repository."""


def test_every_document_named_in_capitals_exists() -> None:
    there = OF_THE_RECORDINGS | {
        p.name for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "producers").rglob("*.md"))
    }
    dangling = [
        f"{path}: {name}"
        for path, text in texts().items()
        if not _is_frozen(path)
        for name in _DOCUMENT.findall(text)
        if name not in there
    ]
    assert not dangling


def test_every_decision_named_by_number_exists() -> None:
    there = {p.name[:4] for p in (ROOT / "docs" / "adr").glob("*.md")}
    assert not [f"{path}: {n}" for path, text in texts().items() for n in _ADR.findall(text) if n not in there]


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports() -> dict[str, set[str]]:
    """Imports by module, lazy and type-only ones included."""
    files = {_module_of(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        inside = {target for target in targets if target in files and target != module}
        # `from package import module` needs the module; the package's own __init__ need not be complete.
        graph[module] = {t for t in inside if not any(o.startswith(f"{t}.") for o in inside)}
    return graph


def test_imports_make_no_circle() -> None:
    try:
        TopologicalSorter(_imports()).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(reversed(error.args[1]))) from None


_DOTTED = re.compile(r"`(\w+(?:\.\w+)+)(?<!\.sql)(?:\(\))?`")


def _members(nodes: list[ast.stmt]) -> set[str]:
    """The names that a module or class defines, and the attributes that its methods set."""
    names = set()
    for node in (n for statement in nodes for n in ast.walk(statement)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name)
    return names


def _defined() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """By module its names, and by class its members. A class that inherits from outside of this project is left out."""
    modules: dict[str, set[str]] = {}
    classes: dict[str, tuple[set[str], list[str]]] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            modules[_module_of(path)] = _members(tree.body)
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    classes[node.name] = _members(node.body), [ast.unparse(base) for base in node.bases]
    for module in list(modules):
        package, _, name = module.rpartition(".")
        modules.setdefault(package, set()).add(name)
    plain = {"NamedTuple", "Protocol", "object"}
    inherited = {
        name: set().union(members, *(classes[base][0] for base in bases if base in classes))
        for name, (members, bases) in classes.items()
        if all(base.partition("[")[0] in plain or base in classes for base in bases)
    }
    return modules, inherited


def _is_dangling(name: str, module: str, modules: dict[str, set[str]], classes: dict[str, set[str]]) -> bool:
    """Return whether a dotted name in the text of `module` leads to a module or class that lacks its last part."""
    parts = name.split(".")
    if parts[0] in classes:
        return parts[1] not in classes[parts[0]]
    packages = module.split(".")
    bases = [".".join(packages[:n]) for n in range(len(packages), 0, -1)]
    for split in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:split])
        for target in (head, *(f"{base}.{head}" for base in bases)):
            if target in modules and target not in ROOMS:
                return parts[split] not in modules[target]
    return False


def test_every_attribute_that_code_or_a_document_names_exists() -> None:
    modules, classes = _defined()
    dangling = [
        f"{path}: {name}"
        for path, text in texts(".py", ".md").items()
        if not _is_frozen(path) and path.parts[0] != "tests"
        for name in _DOTTED.findall(text)
        if _is_dangling(name, _module_of(ROOT / path) if path.suffix == ".py" else "", modules, classes)
    ]
    assert not dangling
