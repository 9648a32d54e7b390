"""`wattlog init`: writes the settings file of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import errors_reported, note, stderr, step_finished


def init(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(help="Pages to look at besides the usual ports of this machine: localhost:8000."),
    ] = None,
    litellm: Annotated[Path | None, typer.Option(help="LiteLLM's configuration file (default: one here).")] = None,
    tenant: Annotated[str, typer.Option(help="Who pays for what no gateway gives to a tenant.")] = "default",
    cluster: Annotated[str, typer.Option(help="Name of this machine's cluster.")] = "local",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing settings file.")] = False,
) -> None:
    """Look at this machine's GPUs and servers, write wattlog.toml, and print what to add elsewhere.

    Reads NVML, the pages of exporters and servers on the usual ports of loopback, and LiteLLM's config.yaml.

    Example: wattlog init --tenant acme localhost:8000
    """
    with errors_reported():
        import logging

        from cli.wiring.advice import advice, sights
        from cli.wiring.probes import probe
        from cli.wiring.settings_text import CALLBACK_FOLDER, settings_text
        from cli.wiring.settings_writer import write_settings
        from contracts import topics
        from contracts.errors import BadInput
        from contracts.settings import settings_file

        logging.basicConfig(level="ERROR")
        topics.check_name("cluster", cluster)
        topics.check_name("tenant", tenant)
        path = settings_file()
        if path.exists() and not force:
            raise BadInput("file", str(path), "it exists: --force replaces it, WATTLOG_CONFIG names another")
        machine = probe(addresses or (), litellm, folder=Path.cwd())
        for line in sights(machine):
            step_finished(line)
        for line in machine.notes:
            note(line)
        folder = str(path.absolute().parent)
        text = settings_text(machine, cluster=cluster, tenant=tenant, folder=folder)
        if earlier := write_settings(path, text):
            step_finished(f"kept the file that was there as {earlier}")
        step_finished(f"wrote {path}")
        if machine.gateway is not None:
            (path.absolute().parent / CALLBACK_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
        import producers.gateways.litellm

        callback = Path(producers.gateways.litellm.__file__).with_name("callback.py")
        for line in advice(machine, folder=folder, callback=str(callback)):
            stderr.print(line, markup=False, soft_wrap=True)
        stderr.print("Next: [bold]wattlog up[/bold]")
