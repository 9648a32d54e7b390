"""Every setting is documented, and every variable that a file names is a setting."""

from __future__ import annotations

import re

import pytest

from contracts.settings import Settings
from tests.project.producer_options import CONFIGS, variables
from tests.project.settings_page import PAGE, environment_name, page
from tests.project.tree import texts

SETTINGS = {environment_name(name) for name in Settings.model_fields}
# Read before there are settings, or by the tests alone.
OTHERS = {"WATTLOG_CONFIG", "WATTLOG_REQUIRE_KAFKA", "WATTLOG_SHARED_DATA"}
PRODUCERS = set().union(*(variables(config) for config in CONFIGS))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_has_a_meaning(name: str) -> None:
    description = Settings.model_fields[name].description or ""
    assert len(description) >= 10
    assert description.endswith(".")


def test_the_page_of_settings_matches_the_code() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.project.settings_page"


def test_every_named_variable_is_a_setting() -> None:
    """Compose, Kubernetes, documents, scripts: a name that no code reads would have no effect."""
    unknown = {
        (str(path), name)
        for path, text in texts(".md", ".yml", ".yaml", ".env", ".example", ".toml", "").items()
        for name in re.findall(r"\bWATTLOG_[A-Z0-9_]*[A-Z0-9]\b", text)
        if name not in SETTINGS | OTHERS | PRODUCERS
    }
    assert not unknown
