"""Generator of docs/settings.md from contracts/settings.py: `python -m tests.project.settings_page` writes the page."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from contracts.settings import Settings
from tests.project.tree import ROOT

PAGE = ROOT / "docs" / "settings.md"

_HEAD = """\
# Settings

All settings, with their environment variables, types, bounds and defaults. An environment variable overrides the file,
and the file overrides the default. The file is `wattlog.toml` in the working directory, or the path in
`WATTLOG_CONFIG`. Its keys are the settings' names: `kafka_bootstrap = "kafka-1:9092,kafka-2:9092"`. The options of
one source are in the table `[produce.NAME]` of the same file, and on [the source's page](producers/README.md).

`wattlog config` lists each setting with its value and origin on your machine; secrets appear as `**********`.
`python -m tests.project.settings_page` generates this page from `contracts/settings.py`; a test compares the two.

| setting | environment variable | type | default | meaning |
| --- | --- | --- | --- | --- |
"""


def environment_name(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"{Settings.model_config['env_prefix']}{setting}".upper()


def page() -> str:
    """Return the text of the page."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    cells = [f"`{name}`", f"`{environment_name(name)}`", _kind(field), _default(field.default), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _kind(field: FieldInfo) -> str:
    limits = {type(rule).__name__.lower(): rule for rule in field.metadata}
    words = [_type_words(field.annotation)]
    for name, word in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
        if name in limits:
            words.append(f"{word} {getattr(limits[name], name):,}".replace(",", " "))
    return " ".join(words)


def _type_words(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_type_words(get_args(annotation)[0])}"
    if get_origin(annotation) in (Union, UnionType):
        return _type_words(next(member for member in get_args(annotation) if member is not NoneType))
    names: dict[Any, str] = {
        SecretStr: "secret",
        Path: "path",
        str: "text",
        int: "integer",
        float: "number",
        bool: "yes or no",
    }
    return names[annotation]


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{json.dumps(value)}`"
    return "none" if value in (None, "") else f"`{value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf-8")
