"""`wattlog receipt`: one request's energy, carbon and cost, with what it takes to check them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.ledger_access import open_ledger_and_settings
from cli.operation_cost import print_operation
from cli.options import Cluster, Data, Json, Tenant
from cli.output import SIMULATED, note, print_json, stdout
from cli.tables import Column, integer, print_table, text_column
from contracts.units import counted, plain_decimal

if TYPE_CHECKING:
    from decimal import Decimal

    from warehouse.ledger.receipts import Receipt

_COLUMNS = (
    text_column("window_start", "window"),
    Column("energy_uj", "energy uJ", integer),
    Column("charge_uj", "tenant's charge uJ", integer),
    Column("share", "share", lambda share: f"{share:.6f}"),
    text_column("method", "method"),
    Column("cost", "cost", str),
    text_column("ledger_sha256", "SHA-256 of the tenant's rows"),
)


def receipt(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="The request's id.", show_default=False)],
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show one request's receipt: joules, gCO2eq and cost, its share of each window's charge, and hashes to check them.

    With a price book, also what it cost in all: electricity, tokens, requests.

    Example: wattlog receipt chatcmpl-42 --json
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain
        from warehouse.billing.operation_cost import costed_receipt
        from warehouse.filters import Filter
        from warehouse.ledger.receipts import receipt as read_receipt

        if settings.requests == "none":
            note("Workers do not store single requests (WATTLOG_REQUESTS=none): only earlier ones have receipts.")
        filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, model=model)
        result = costed_receipt(reader, read_receipt(reader, request_id, filter_), settings.currency)
        if as_json:
            print_json(plain(result))
        else:
            _print_receipt(result)
            print_operation(result.operation)


def _print_receipt(result: Receipt) -> None:
    from contracts.units import rfc3339

    request, out = result.request, stdout()
    lines = {
        "tenant": request.tenant,
        "model": f"{request.model} on {request.cluster}/{request.workload}",
        "from, to": f"{rfc3339(request.t_start)}, {rfc3339(request.t_end)}",
        "tokens": f"{request.prompt_tokens:,} prompt, {request.completion_tokens:,} completion",
        "energy": f"{request.energy_uj:,} uJ, {_amount(result.kwh, 'kWh')}",
        "with PUE": _amount(result.kwh_facility, "kWh"),
        "carbon": _amount(result.gco2, "gCO2eq"),
        "cost": _amount(result.cost, result.currency),
        "evidence": result.method,
    }
    out.print(f"Receipt of {request.request_id}" + (f"  {SIMULATED}" if request.simulated else ""), markup=False)
    for name, value in lines.items():
        out.print(f"  {name:<10}{value}", markup=False, soft_wrap=True)
    rows = [
        {
            "window_start": rfc3339(window.window_start),
            "energy_uj": window.active_uj + window.idle_uj,
            "charge_uj": window.charge_uj,
            "share": window.share,
            "method": window.method,
            "cost": None if window.cost is None else plain_decimal(window.cost),
            "ledger_sha256": window.ledger_sha256,
        }
        for window in result.windows
    ]
    print_table(rows, _COLUMNS, title="Windows")
    if result.missing_prices:
        missing = ", ".join(f"{price.kind} of {price.cluster}" for price in result.missing_prices)
        note(f"No price: {missing}. An amount without a price is left empty, never taken as 0.")
    if request.unmetered_windows:
        windows = f"{request.unmetered_windows} of {counted(request.windows, 'window')}"
        note(f"In {windows} nothing was measured: amounts are unknown.")


def _amount(amount: Decimal | None, unit: str) -> str:
    return "-" if amount is None else f"{plain_decimal(amount)} {unit}"
