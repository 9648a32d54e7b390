"""Saved questions: SQL over the views for analysts, one file each in `warehouse/ad_hoc/saved`."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources

from contracts.errors import BadInput


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """A question in SQL, and what its answer is, in one sentence or more."""

    name: str
    meaning: str
    sql: str


def saved_questions() -> list[SavedQuestion]:
    """Return all saved questions, by name."""
    folder = resources.files("warehouse") / "ad_hoc" / "saved"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [_question(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in files]


def _question(name: str, text: str) -> SavedQuestion:
    """Return the question of a file, which begins with its meaning as comments."""
    lines = text.splitlines()
    comments = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    return SavedQuestion(name, " ".join(comments), "\n".join(lines[len(comments) :]) + "\n")


def saved_question(name: str) -> SavedQuestion:
    """Return the question of this name. Raises BadInput for an unknown one, with the nearest."""
    by_name = {question.name: question for question in saved_questions()}
    if name not in by_name:
        nearest = get_close_matches(name, by_name, 1)
        raise BadInput("--saved", name, f"did you mean {nearest[0]}?" if nearest else f"give {', '.join(by_name)}")
    return by_name[name]
