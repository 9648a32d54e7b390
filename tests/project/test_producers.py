"""docs/producers has a page for every producer, and every page the options that the code has."""

from __future__ import annotations

import re
import tomllib

import pytest

from producers import registry
from producers.runai import meters as runai
from producers.runtime.config import ProducerConfig
from producers.servers.kinds import KNOWN
from tests.project.producer_options import CONFIGS, variables
from tests.project.tree import ROOT

DOCS = ROOT / "docs" / "producers"
INDEX = (DOCS / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", registry.names())
def test_a_producer_has_a_page_and_a_row_in_the_table_of_sources(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text("utf-8").startswith(f"# `wattlog produce {name}`: ")
    assert f"| `wattlog produce {name}` | [{name}]({name}.md) |" in INDEX


def test_a_page_is_of_a_producer_or_of_what_they_share() -> None:
    assert {p.stem for p in DOCS.glob("*.md")} - {"README"} == set(registry.names()) | set(registry.shared())


@pytest.mark.parametrize("name", registry.shared())
def test_what_producers_share_has_a_page_that_the_index_names(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text("utf-8").startswith("# ")
    assert f"({name}.md)" in INDEX


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_page_has_every_option_and_its_variable_and_no_other(config: type[ProducerConfig]) -> None:
    page = (DOCS / f"{config.name}.md").read_text("utf-8")
    assert set(re.findall(r"^\| `\w+` \| `(WATTLOG_\w+)`", page, re.M)) == variables(config)
    assert {name for name, field in config.model_fields.items() if not field.description} == set()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_examples_of_a_page_can_be_read(config: type[ProducerConfig]) -> None:
    page = (DOCS / f"{config.name}.md").read_text("utf-8")
    examples = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", page, re.S)]
    assert examples
    for example in examples:
        config(**example["produce"][config.name])


def test_every_server_that_is_known_is_on_the_page() -> None:
    page = (DOCS / "servers.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \| ", page, re.M)) >= set(KNOWN)


def test_every_metric_of_run_ai_is_on_the_page_with_its_meter_and_unit() -> None:
    page = (DOCS / "runai.md").read_text("utf-8")
    rows = [
        f"| `{metric}` | `{m.meter}` | {m.unit} |" for table in runai.METERS.values() for metric, m in table.items()
    ]
    assert [row for row in rows if row not in page] == []
    assert f"`{runai.WORKLOAD_MINUTES.meter}`" in page
