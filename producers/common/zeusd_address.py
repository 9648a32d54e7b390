"""Where a zeusd listens. Apart from its client, so that whoever does not read one need not load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

SOCKET = "unix://"


def address(url: str) -> str:
    """An address that may be shown, or "". Raises ValueError for what is none."""
    if not url:
        return ""
    if url.startswith(SOCKET):
        if not Path(url.removeprefix(SOCKET)).is_absolute():
            raise ValueError("give the socket's whole path: unix:///run/zeusd/zeusd.sock")
        return url
    if not url.startswith(("http://", "https://")):
        raise ValueError("give unix:///path/of/the/socket or http://host:4938")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("leave user and password out of the address: it is shown; use `bearer`")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(address)]
