"""Generator of docs/saved-questions.md from the saved questions: `python -m tests.project.saved_questions_page`."""

from __future__ import annotations

from tests.project.tree import ROOT
from warehouse.ad_hoc.saved_questions import saved_questions

PAGE = ROOT / "docs" / "saved-questions.md"
_HEAD = """\
# Saved questions

Thirteen questions over [the views for analysts](analysts.md). `wattlog sql --saved month_over_month` asks one, `wattlog sql --saved list` names them.
Copy one to change it: a range of `hour`, for example, or one tenant. Money is NULL where it is unknown, and every answer has a row for each currency.
`python -m tests.project.saved_questions_page` generates this page from the files; a test compares the two, and another asks each question of a small ledger.
"""  # noqa: E501 (lines of the page)


def page() -> str:
    """Return the text of the page."""
    parts = (f"\n## {q.name}\n\n{q.meaning}\n\n```sql\n{q.sql}```\n" for q in saved_questions())
    return _HEAD + "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
