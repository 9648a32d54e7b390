"""Every plug-in has a page in its folder, every page lists the code's options, and the index names every page."""

from __future__ import annotations

import os
import re
import tomllib

import pytest

from producers import registry
from producers.api import PRODUCERS, Kind
from producers.runai import meters as runai
from producers.runtime.config import ProducerConfig
from tests.project.producer_options import CONFIGS, variables
from tests.project.tree import ROOT

DOCS = ROOT / "docs" / "producers"
INDEX = (DOCS / "README.md").read_text("utf-8")
PRODUCED = [entry for entry in registry.BUILT_IN if entry.kind in PRODUCERS]
ROUTES = [entry for entry in registry.BUILT_IN if entry.kind is Kind.ROUTE]
SHARED = [entry for entry in registry.BUILT_IN if entry.kind is Kind.SHARED]
SERVERS = [entry for entry in registry.BUILT_IN if entry.kind is Kind.SERVER]


def page(entry: registry.Entry) -> str:
    return (ROOT / entry.folder / "README.md").read_text("utf-8")


def link(entry: registry.Entry) -> str:
    return f"[{entry.name}]({os.path.relpath(ROOT / entry.folder / 'README.md', DOCS)})"


def page_of(name: str) -> str:
    return next(page(entry) for entry in (*PRODUCED, *SHARED) if entry.name == name)


def page_with(config: type[ProducerConfig]) -> str:
    """The page of the first plug-in that has these options."""
    entries = (*PRODUCED, *SHARED, *ROUTES)
    return next(page(entry) for entry in entries if registry.get(entry.name, entry.kind).options is config)


@pytest.mark.parametrize("entry", PRODUCED, ids=lambda entry: entry.name)
def test_a_producer_has_a_page_and_a_row_in_the_table_of_sources(entry: registry.Entry) -> None:
    assert page(entry).startswith(f"# `wattlog produce {entry.name}`: ")
    assert f"| `wattlog produce {entry.name}` | {link(entry)} |" in INDEX


@pytest.mark.parametrize("entry", registry.BUILT_IN, ids=lambda entry: f"{entry.kind.name}-{entry.name}")
def test_every_plug_in_has_a_page_in_its_folder(entry: registry.Entry) -> None:
    assert page(entry).startswith("# ")


def test_every_page_belongs_to_a_plug_in() -> None:
    pages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "producers").rglob("README.md")}
    assert pages == {entry.folder for entry in registry.BUILT_IN}
    assert {path.name for path in DOCS.iterdir()} == {"README.md"}


@pytest.mark.parametrize("entry", SHARED, ids=lambda entry: entry.name)
def test_options_that_producers_share_have_a_page_in_the_index(entry: registry.Entry) -> None:
    assert link(entry) in INDEX


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_page_lists_exactly_the_options_and_variables_of_the_code(config: type[ProducerConfig]) -> None:
    page = page_with(config)
    assert set(re.findall(r"^\| `\w+` \| `(WATTLOG_\w+)`", page, re.M)) == variables(config)
    assert {name for name, field in config.model_fields.items() if not field.description} == set()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_examples_of_a_page_are_valid(config: type[ProducerConfig]) -> None:
    page = page_with(config)
    examples = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", page, re.S)]
    assert examples
    for example in examples:
        config(**example["produce"][config.name])


@pytest.mark.parametrize("entry", SERVERS, ids=lambda entry: entry.name)
def test_every_server_has_a_row_that_links_to_its_page(entry: registry.Entry) -> None:
    assert f"| [`{entry.name}`]({entry.name}/README.md) | " in page_of("servers")


def test_every_metric_of_run_ai_is_on_the_page_with_its_meter_and_unit() -> None:
    text = page_of("runai")
    rows = [
        f"| `{metric}` | `{m.meter}` | {m.unit} |" for table in runai.METERS.values() for metric, m in table.items()
    ]
    assert [row for row in rows if row not in text] == []
    assert f"`{runai.WORKLOAD_MINUTES.meter}`" in text
