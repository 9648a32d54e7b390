"""Address of a zeusd. It is apart from the client, so that a source without zeusd need not load the client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

SOCKET = "unix://"


def address(url: str) -> str:
    """Return an address that may be shown, or "". Raises ValueError for another text."""
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
