"""Total cost of operation of a request or session, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.output import note, stdout
from cli.tables import Column, print_table, text_column
from contracts.units import plain_decimal, shortest_decimal

if TYPE_CHECKING:
    from warehouse.billing.operation_cost import OperationCost

_COLUMNS = (
    text_column("name", "cost"),
    Column("quantity", "quantity", str),
    text_column("unit", "unit"),
    Column("amount", "amount", str),
    text_column("currency", ""),
    text_column("steps", "arithmetic"),
)


def print_operation(cost: OperationCost) -> None:
    """Print the items, their totals, and what is in none of them."""
    rows = [
        {
            "name": item.name + ("" if item.side == "cost" else f" ({item.side})"),
            "quantity": None if item.quantity is None else shortest_decimal(item.quantity),
            "unit": item.unit,
            "amount": None if item.amount is None else shortest_decimal(item.amount),
            "currency": item.currency,
            "steps": "; ".join(item.steps),
        }
        for item in cost.items
    ]
    if rows:
        print_table(rows, _COLUMNS, title="Total cost of operation")
    for total in cost.totals:
        amount = (
            "unknown: a cost is open" if total.amount is None else f"{plain_decimal(total.amount)} {total.currency}"
        )
        stdout().print(f"  {total.side}: {amount}", markup=False)
    if cost.unpriced_meters:
        note(f"Used, and without a rate in the price book: {', '.join(cost.unpriced_meters)}.")
    if cost.not_attributed:
        note(f"In the month's bill, and of no single request: {', '.join(cost.not_attributed)}.")
