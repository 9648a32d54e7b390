"""`wattlog price`: the former name of `wattlog prices`, kept for scripts."""

from __future__ import annotations

import typer


def price(ctx: typer.Context) -> None:
    """Run `wattlog prices`: list without arguments, remove with --remove, else set."""
    words = [word for word in ctx.args if word != "--remove"]
    is_listing = all(word.startswith("-") for word in words[:1])
    command = "remove" if "--remove" in ctx.args else "list" if is_listing else "set"
    ctx.find_root().command.main(["prices", command, *words], prog_name="wattlog")
