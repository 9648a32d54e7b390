"""The commands of `wattlog`: one file each, in a fixed order, without knowledge of any source."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from cli.main import COMMANDS, app
from producers import registry
from producers.api import Kind

CLI = Path(__file__).parents[2] / "cli"
RUN = ["demo", "init", "up", "produce", "stream", "serve", "migrate", "replay"]
ASK = [
    "chargeback",
    "usage",
    "session",
    "sessions",
    "requests",
    "receipt",
    "fleet",
    "efficiency",
    "latency",
    "anomalies",
    "forecast",
]
BILL = ["bills", "bill", "close", "reopen", "book", "export"]
CHECK = ["reconcile", "explain", "sql", "audit", "doctor", "config", "key"]
EDIT = ["tenants", "floors", "weights", "prices", "clusters", "aliases"]


def test_each_command_is_a_file_of_its_name() -> None:
    for commands in COMMANDS.values():
        for command in commands:
            assert Path(inspect.getfile(command)) == CLI / f"{command.__name__}.py"


def test_help_lists_the_commands_in_order() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).stdout
    assert re.findall(r"^│ ([a-z]+) {2,}\S", text, re.MULTILINE) == [*RUN, *ASK, *CHECK[:4], *BILL, *CHECK[4:], *EDIT]


def test_no_command_knows_a_source_by_name() -> None:
    names = {*registry.names(Kind.GPU, Kind.POLLED, Kind.LISTENER, Kind.SERVER, Kind.BINDING)}
    names -= {*registry.names(Kind.RECORDING)}  # Each has a command of its own.
    for path in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{path.name}:{node.lineno}"


HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "statsmodels",
    "chdb",
    "clickhouse_connect",
    "fastapi",
    "faust",
    "confluent_kafka",
}
"""Packages that take longer to import than a page of help takes to print."""


def test_help_imports_no_heavy_package() -> None:
    code = "import sys, cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(process.stdout.split())
