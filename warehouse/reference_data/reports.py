"""Reports of edits: the changes as people write rows, with what they do to the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.reference_data.editing import Edit


@dataclass(frozen=True, slots=True)
class ReportedChange:
    """A row that is added, changed or removed, as texts by field."""

    change: str
    row: dict[str, str]
    """After the change; of a removed row, before."""
    before: dict[str, str] | None
    """Of a changed row."""
    follows: bool
    """True if another row's start or end changes it."""


@dataclass(frozen=True, slots=True)
class EditReport:
    """Numbers of changed rows, the first of them, and what follows."""

    stored: bool
    added: int
    changed: int
    unchanged: int
    removed: int
    changes: list[ReportedChange]
    effects: list[str]
    """What happens to final hours of the ledger."""
    notes: list[str]


def edit_report(edit: Edit, limit: int, *, stored: bool) -> EditReport:
    """Return the report of an edit, with at most `limit` changes. `stored` says whether it is in the tables."""
    table = edit.table
    return EditReport(
        stored=stored,
        added=len(edit.changes.of("added")),
        changed=len(edit.changes.of("changed")),
        unchanged=edit.changes.unchanged,
        removed=len(edit.changes.of("removed")),
        changes=[
            ReportedChange(
                change.sort,
                table.texts(change.before if change.after is None else change.after),
                table.texts(change.before) if change.sort == "changed" else None,
                change.follows,
            )
            for change in edit.changes.changes[:limit]
        ],
        effects=[str(effect) for effect in edit.effects],
        notes=list(edit.notes),
    )
