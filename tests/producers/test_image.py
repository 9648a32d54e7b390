"""The size of a node's agent: the packages of its extra, and the modules of a running agent."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from tests.project.tree import ROOT

SERVERS = {
    "chdb", "statsmodels", "faust", "faust-streaming", "clickhouse-connect", "clickhouse_connect", "fastapi", "uvicorn",
    "pandas", "pyarrow", "scipy", "aiokafka",
}  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0].lower()


def installed_with(extra: str) -> set[str]:
    """Every distribution that an extra pulls in, as far as it is installed here."""
    left = [name_of(r) for r in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra])]
    names: set[str] = set()
    while left:
        name = left.pop()
        if name in names:
            continue
        names.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # For another system or an older Python.
            continue
        left += [name_of(r) for r in requirements if "extra ==" not in r]
    return names


def test_an_agents_extra_pulls_in_no_warehouse_no_stream_and_no_statistics() -> None:
    assert not installed_with("agent") & SERVERS
    assert installed_with("server") >= {"chdb", "statsmodels"}  # Otherwise this test could not see them.


@pytest.mark.parametrize(
    ("producer", "module"), [("nvml", "producers.gpu.nvml.sensor"), ("host", "producers.host.plugin")]
)
def test_a_running_agent_loads_no_unnecessary_module(producer: str, module: str) -> None:
    code = (
        f"import sys, {module}, cli.main\n"
        "from producers import registry\n"
        f"registry.get({producer!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(process.stdout.split()) & (SERVERS | {"httpx", "warehouse", "streams", "forecasting", "api"})
