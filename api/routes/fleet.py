"""Fleet: energy and utilisation of each node's GPUs, or of any groups of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import Response

from api.auth import FleetReader, LedgerRouter
from api.examples import ledger as examples
from api.params import NAME, Cluster, CoveredPeriod, RequestedFormat, RequestedPage, split_names
from api.response_models import RowsResponse, documented
from api.serialization import Format, plain, plain_rows, respond, respond_page
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.fleet_groups import FleetGroups, fleet_columns, grouped_fleet
from warehouse.ledger.known_names import with_known_names
from warehouse.periods import Period
from warehouse.results import FleetGroup, FleetRow

router = LedgerRouter(prefix="/v1", tags=["drill-down"])
_NAME = "(cluster|node|hardware|model)"
_BY = f"^{_NAME}(,{_NAME})*$"


class FleetGroupsResponse(RowsResponse[FleetGroup]):
    """The fleet by groups. `total` counts each GPU once."""

    total: FleetGroup


@router.get("/fleet", responses=documented(RowsResponse[FleetRow] | FleetGroupsResponse, examples.FLEET))
def fleet(
    request: Request,
    reader: FleetReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    cluster: Cluster = None,
    by: Annotated[
        str | None, Query(pattern=_BY, description="Groups, comma-separated: cluster, node, hardware, model.")
    ] = None,
    bucket: Annotated[
        Literal["hour", "day", "week", "month"] | None, Query(description="Over time, in steps of this.")
    ] = None,
    compare: Annotated[
        str | None, Query(**NAME, description="Another period; or, where `cluster` names one, another cluster.")
    ] = None,
    format_: RequestedFormat = None,
) -> Response:
    """Each node's GPUs, by hardware: energy, mean power, utilisation, idle and unallocated share. Operators only.

    With `by`, `bucket` or `compare`, rows of those groups and their total, in which a GPU that moved counts once."""
    filter_ = Filter(cluster=cluster)
    if by is not None or bucket is not None or compare is not None:
        names = split_names(by) if by else [] if bucket else ["cluster"]
        groups = grouped_fleet(reader, period, names, bucket, compare, filter_, request.app.state.settings.fiscal)
        return _respond_groups(request, format_, groups, [*([bucket] if bucket else []), *names], period, compare)
    read = with_known_names(reader, filter_, partial(ledger_queries.fleet, reader, period, filter_))
    return respond_page(request, format_, read, page_request, FleetRow, period)


def _respond_groups(
    request: Request,
    format_: Format | None,
    groups: FleetGroups,
    names: list[str],
    period: Period,
    compare: str | None,
) -> Response:
    """Respond with the fleet's groups, of which there is one page, and their total."""
    columns = fleet_columns(names, compared=compare is not None)
    hidden = FleetGroup.__dataclass_fields__.keys() - set(columns)
    return respond(
        request,
        format_,
        plain_rows(groups.rows, exclude=hidden),
        columns,
        period=plain(period),
        simulated=groups.total.simulated,
        total=plain(groups.total, exclude=hidden | set(names)),
    )
