"""The API over the seeded ledger, as in its own tests."""

from __future__ import annotations

from tests.api.conftest import _no_settings_from_outside, client, open_api

__all__ = ["_no_settings_from_outside", "client", "open_api"]
