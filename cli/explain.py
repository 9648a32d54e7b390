"""`wattlog explain`: traces a charge, or a line of a bill, back to its tariff, share of work and measurements."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.ledger_access import open_ledger
from cli.options import Data, Json
from cli.output import print_json, stdout

LINE_ID = re.compile("[0-9a-f]{20}")


def explain(
    subject: Annotated[
        str, typer.Argument(help="Tenant of the charge, or id of a line of a closed month.", show_default=False)
    ],
    window: Annotated[str, typer.Option(help="latest, or RFC 3339: the window that contains it.")] = "latest",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Trace a charge back to the tariff, the share of work and what each GPU measured.

    A line of a bill is traced to its arithmetic, its largest windows and the intervals of one; of a month that is not
    closed, `wattlog bill MONTH --line ID` does it.

    Examples: wattlog explain acme --window 2026-10-31T22:30:00Z;  wattlog explain 8afde3b5f81d4eb08991
    """
    with open_ledger(data) as reader:
        from api.serialization import plain
        from cli.charge_tree import charge_tree
        from cli.line_explanation import explain_line, line_document
        from warehouse.billing.line_windows import find_closed_line
        from warehouse.ledger.explained_charge import Explanation
        from warehouse.ledger.explanation import explain as explain_charge

        billed = find_closed_line(reader, subject) if LINE_ID.fullmatch(subject) else None
        if billed is not None:
            if as_json:
                print_json(line_document(reader, *billed))
            else:
                explain_line(reader, *billed)
            return
        explanation = explain_charge(reader, subject, window)
        if as_json:
            print_json(plain(explanation))
        else:
            assert isinstance(explanation, Explanation), "the command's reader is an operator's"
            stdout().print(charge_tree(explanation), soft_wrap=True)
