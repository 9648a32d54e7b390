"""The warehouse of the settings, opened. Apart, because commands that only ask need not load what runs the line."""

from __future__ import annotations

from contracts.settings import Settings
from warehouse.client import Warehouse, connect


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse of the settings. The embedded one's folder is made, private to its user."""
    if not settings.warehouse_dsn:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = settings.warehouse_password.get_secret_value() if settings.warehouse_password else None
    return connect(settings.dsn, password=password)
