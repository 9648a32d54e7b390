"""`wattlog replay NAME`, for recordings that other packages register (`producers.registry`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli.options import Data, Json
from cli.output import errors_reported
from cli.replay import RecordingCluster, Replace, Speed, Worker, close_ms, run_replay
from cli.settings import load_settings


class ReplayGroup(TyperGroup):
    """The commands of `wattlog replay`: the built-in ones, and one for each other registered recording."""

    def list_commands(self, ctx: Any) -> list[str]:
        from producers import registry
        from producers.api import Kind

        built_in = super().list_commands(ctx)
        return [*built_in, *(name for name in registry.names(Kind.RECORDING) if name not in built_in)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from producers import registry
        from producers.api import Kind

        built_in = super().get_command(ctx, cmd_name)
        if built_in is not None or cmd_name not in registry.names(Kind.RECORDING):
            return built_in
        summary = registry.get(cmd_name, Kind.RECORDING).summary
        plugin = typer.Typer(add_completion=False, rich_markup_mode="rich")
        plugin.command(name=cmd_name, help=f"Replay {summary}. Options of its own: [produce.{cmd_name}].")(
            _command(cmd_name)
        )
        return typer.main.get_command(plugin)


def _command(name: str) -> Callable[..., None]:
    def replay_plugin(
        files: Annotated[list[Path], typer.Argument(help="The recorded files.")],
        cluster: RecordingCluster = name,
        speed: Speed = 0,
        worker: Worker = True,
        replace: Replace = False,
        data: Data = None,
        as_json: Json = False,
    ) -> None:
        with errors_reported():
            from producers.runtime.runner import open_recording

            settings = load_settings(data, quiet=True)
            recording = open_recording(name, settings, *files, cluster=cluster, close_ms=close_ms(settings))
            run_replay(settings, recording, speed=speed, worker=worker, as_json=as_json, replace=replace)

    return replay_plugin
