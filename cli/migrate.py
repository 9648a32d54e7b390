"""`wattlog migrate`: brings tables and topics up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.audit_entries import recorded_change
from cli.options import Data, Json
from cli.output import errors_reported, print_json
from cli.settings import load_settings


def migrate(
    data: Data = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Store the simulated fleet's prices, tenants and idle floors, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the warehouse's tables and Kafka's topics up to date. Safe to run again."""
    with errors_reported():
        from cli.ledger_access import open_warehouse
        from producers.runtime.publisher import kafka_config
        from streams.kafka_admin import ensure_topics
        from streams.startup import prepare_warehouse

        settings = load_settings(data)
        with open_warehouse(settings) as warehouse:
            applied = prepare_warehouse(warehouse, durable=settings.durable or None)
            if simulated:
                from cli.demo_history import SIMULATED_FLEET, store_reference_data

                with recorded_change(settings, "reference_data.put", SIMULATED_FLEET):
                    store_reference_data(warehouse, settings)
            where = warehouse.where
        topics = [] if settings.embedded_broker else ensure_topics(settings, kafka_config(settings))
        if as_json:
            print_json({"warehouse": where, "migrations": applied, "topics": topics})
            return
        typer.echo(f"{where}: {', '.join(applied) or 'up to date'}")
        if not settings.embedded_broker:
            typer.echo(f"{settings.kafka_bootstrap}: {', '.join(topics) or 'topics exist'}")
