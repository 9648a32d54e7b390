"""Generator of docs/data-dictionary.md from the engine's comments of columns of the views for analysts.

`python -m tests.project.data_dictionary` writes the page.
"""

from __future__ import annotations

import tempfile

from tests.project.tree import ROOT
from warehouse.ad_hoc.views import declared_columns
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate

PAGE = ROOT / "docs" / "data-dictionary.md"
VIEWS = {
    "usage_hour": (
        "The ledger by hour, with money: energy, tokens and requests of each tenant, workload, model, hardware and "
        "dimension. Where a price changes inside an hour, or its tenant moves to another team, the hour has a row for "
        "each part."
    ),
    "energy_hour": "Energy, money and grams by hour, for questions about the fleet: measured energy, no tokens.",
    "tokens_hour": "Tokens by kind and hour, with the energy and the money that they took.",
    "efficiency_day": "Energy and money per token by UTC day.",
    "requests_final": (
        "Single requests of final windows, with energy, money and grams. They are kept for 30 days, and not at "
        "all where workers store none (`WATTLOG_REQUESTS=none`)."
    ),
    "bill_lines": (
        "Lines of closed billing periods, as they were frozen, with corrections of earlier ones. A period that was "
        "reopened is not here until it is closed again."
    ),
    "price_steps": "Tariff, PUE and carbon intensity of each cluster over time: its own before those of `*`.",
}
_HEAD = """\
# Data dictionary

The views for analysts, column by column. [Analysts' page](analysts.md) says how to ask them. `wattlog sql "DESCRIBE usage_hour"`
shows the same comments. `python -m tests.project.data_dictionary` generates this page from the comments in the warehouse;
a test compares the two.
"""  # noqa: E501 (a line of the page)


def page(warehouse: Warehouse) -> str:
    """Return the text of the page, of a migrated warehouse."""
    rows = warehouse.query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = currentDatabase() "
        "AND table IN {views:Array(String)} ORDER BY table, position",
        views=list(VIEWS),
    )
    parts = [_HEAD]
    for view, meaning in VIEWS.items():
        parts.append(f"\n## {view}\n\n{meaning}\n\n| column | type | meaning |\n| --- | --- | --- |\n")
        parts += [
            f"| `{r['name']}` | {_plain(r['type'])} | {r['comment'].replace('__', chr(92) + '_' + chr(92) + '_')} |\n"
            for r in rows
            if r["table"] == view
        ]
    return "".join(parts)


def _plain(type_: str) -> str:
    """Return a type without how it is stored."""
    return "String" if type_ == "LowCardinality(String)" else type_


if __name__ == "__main__":
    assert VIEWS.keys() == declared_columns().keys()
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(f"chdb://{folder}/warehouse", database="wattlog") as warehouse,
    ):
        migrate(warehouse)
        PAGE.write_text(page(warehouse), "utf-8")
