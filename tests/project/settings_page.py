"""docs/settings.md from contracts/settings.py: `python -m tests.project.settings_page` writes it anew."""

from __future__ import annotations

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

Every setting, where it comes from, and what it is when nobody says. The environment wins over the file, the file over
the default. The file is `wattlog.toml` in the working directory, or the path in `WATTLOG_CONFIG`; a name in it is the
setting's own, in small letters: `kafka_bootstrap = "kafka-1:9092,kafka-2:9092"`.

`wattlog config` shows each setting, its value and its source on your machine; secrets are shown as `**********`.
This page is made from `contracts/settings.py` by `python -m tests.project.settings_page`; a test keeps the two alike.

| setting | environment | kind | default | meaning |
| --- | --- | --- | --- | --- |
"""


def environment_name(setting: str) -> str:
    """The environment variable of a setting."""
    return f"{Settings.model_config['env_prefix']}{setting}".upper()


def page() -> str:
    """The whole page."""
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
        return ", ".join(f"`{each}`" for each in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return _type_words(next(each for each in get_args(annotation) if each is not NoneType))
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
    return "none" if value in (None, "") else f"`{value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf-8")
