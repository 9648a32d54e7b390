"""`wattlog explain`: traces a charge back to its tariff, share of work and measurements."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.ledger_access import open_ledger
from cli.options import Data, Json
from cli.output import print_json, stdout


def explain(
    tenant: Annotated[str, typer.Argument(help="Tenant of the charge.", show_default=False)],
    window: Annotated[str, typer.Option(help="latest, or RFC 3339: the window that contains it.")] = "latest",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Trace a charge back to the tariff, the share of work and what each GPU measured.

    Example: wattlog explain acme --window 2026-10-31T22:30:00Z
    """
    with open_ledger(data) as reader:
        from api.serialization import plain
        from cli.charge_tree import charge_tree
        from warehouse.ledger.explained_charge import Explanation
        from warehouse.ledger.explanation import explain as explain_charge

        explanation = explain_charge(reader, tenant, window)
        if as_json:
            print_json(plain(explanation))
        else:
            assert isinstance(explanation, Explanation), "the command's reader is an operator's"
            stdout().print(charge_tree(explanation), soft_wrap=True)
