"""Fleet: energy and utilisation of each node's GPUs."""

from __future__ import annotations

from functools import partial

from fastapi import Request
from fastapi.responses import Response

from api.auth import FleetReader, LedgerRouter
from api.examples import ledger as examples
from api.params import Cluster, CoveredPeriod, RequestedFormat, RequestedPage
from api.response_models import RowsResponse, documented
from api.serialization import respond_page
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.known_names import with_known_names
from warehouse.results import FleetRow

router = LedgerRouter(prefix="/v1", tags=["drill-down"])


@router.get("/fleet", responses=documented(RowsResponse[FleetRow], examples.FLEET))
def fleet(
    request: Request,
    reader: FleetReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    cluster: Cluster = None,
    format_: RequestedFormat = None,
) -> Response:
    """Each node's GPUs, by hardware: energy, mean power, utilisation, idle and unallocated share. Operators only."""
    filter_ = Filter(cluster=cluster)
    read = with_known_names(reader, filter_, partial(ledger_queries.fleet, reader, period, filter_))
    return respond_page(request, format_, read, page_request, FleetRow, period)
