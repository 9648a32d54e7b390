"""Text of an address that a process listens on."""

from __future__ import annotations


def host_port(host: str, port: int) -> str:
    """Return host and port as in an URL: `127.0.0.1:8787`, `[::1]:8787`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
