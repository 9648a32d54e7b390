"""Progress on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

console = Console(stderr=True, highlight=False)


class Progress:
    """`say` what happens now, `step` when a run is over."""

    def __init__(self, bar: Bar | None, name: str) -> None:
        self._bar, self._name = bar, name
        self._task = bar.add_task(name, total=None) if bar else None

    def total(self, steps: int) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, total=steps)

    def say(self, text: str) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text)
        else:
            console.print(f"{self._name}: {text}", soft_wrap=True)

    def step(self) -> None:
        if self._bar and self._task is not None:
            self._bar.advance(self._task)


@contextmanager
def show_progress(name: str) -> Iterator[Progress]:
    """Progress until the block ends."""
    if not console.is_terminal:
        yield Progress(None, name)
        return
    columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True) as bar:
        yield Progress(bar, name)
