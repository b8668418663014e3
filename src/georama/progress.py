"""One place for bars: rate and time left on a terminal, silence everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress


class Advance(Protocol):
    """Take n steps of a bar, and say a few words beside it, for example a loss."""

    def __call__(self, n: int, said: str = "") -> None:
        """Move the bar."""
        ...


# rich allows one live display at a time, so a bar opened inside another joins its display.
_open: list[Progress] = []


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs.

    Args:
        title: What is being done, for example "Embedding".
        total: Number of steps, or None when it is not known beforehand.

    Yields:
        `advance(n)`, to be called after every n steps, with words to show if there are any.
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    bars = _open[0] if _open else None
    if bars is not None:
        with _one_bar(bars, title, total) as advance:
            yield advance
        return
    with _display() as bars:
        _open.append(bars)
        try:
            with _one_bar(bars, title, total) as advance:
                yield advance
        finally:
            _open.clear()


class Clock:
    """Seconds of each part of the work, `laps`."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the part of this name, and begin the next."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._since, 2)
        self._since = now


told: set[str] = set()
"""What was said already, so that the notes at the end need not repeat it."""


def tell(text: str) -> None:
    """Say one line on standard error that should be known before the work ends."""
    told.add(text)
    sys.stderr.write(f"note: {text}\n")


def _silent(n: int, said: str = "") -> None:
    """Take a step without showing it."""


@contextmanager
def _one_bar(bars: Progress, title: str, total: int | None) -> Iterator[Advance]:
    task = bars.add_task(title, total=total, said="")

    def advance(n: int, said: str = "") -> None:
        if said:
            bars.update(task, said=said)
        bars.advance(task, n)

    try:
        yield advance
    finally:
        bars.remove_task(task)


def _display() -> Progress:
    # Imported here, since rich costs a tenth of a second that quiet runs need not pay.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps a second, with as many digits as say something."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.3g}/s" if task.speed else "", style="dim")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
        console=Console(stderr=True),
        transient=True,
    )
