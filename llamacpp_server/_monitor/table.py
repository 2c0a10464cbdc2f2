"""Snapshots as a table for the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .._printable import short_line
from ..errors import NotSupportedError
from .snapshot import ModelView, SlotView, Snapshot, rates

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as error:
    raise NotSupportedError("`top` needs the package rich", remedy="pip install 'llamacpp-server[top]'") from error

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 12
_MOST_SHOWN = 1000


def screen(now: Snapshot, before: Snapshot | None = None) -> RenderableType:
    """The table; rates are those since the snapshot before."""
    earlier = {model.name: model for model in before.models} if before is not None else {}
    seconds = now.taken - before.taken if before is not None else 0.0
    head = f"[bold]{escape(short_line(now.base_url))}[/bold]  {escape(short_line(now.build))}"
    if now.error is not None:
        return Group(head, f"[red]{escape(short_line(now.error, _MOST_SHOWN))}[/red]")
    parts: list[RenderableType] = [head]
    for model in now.models:
        parts.append(_title(model, earlier.get(model.name), seconds))
        if model.slots is not None:
            parts.append(_table(model.slots))
    return Group(*parts, *(f"[dim]{escape(short_line(note, _MOST_SHOWN))}[/dim]" for note in now.notes))


def _title(model: ModelView, before: ModelView | None, seconds: float) -> str:
    text = f"\n[bold]{escape(short_line(model.name))}[/bold]"
    if model.status != "loaded":
        return f"{text}  {escape(short_line(model.status))}"
    if model.counters is not None:
        running, waiting = (model.counters.get(f"requests_{name}", 0.0) for name in ("processing", "deferred"))
        text += f"  {running:.0f} running, {waiting:.0f} waiting"
        read, cached = (model.counters.get(f"prompt_tokens_{name}", 0.0) for name in ("total", "cached_total"))
        if read + cached:
            text += f", {cached / (read + cached):.0%} of prompts from the cache"
    found = rates(model, before, seconds)
    if found is not None:
        text += f"\n{found['read']:.0f} tokens/s read, {found['written']:.0f} tokens/s generated"
    return text


def _table(slots: tuple[SlotView, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("slot", "", "prompt", "cached", "read", "generated", "context"):
        table.add_column(name, justify="left" if name in ("", "context") else "right")
    for slot in slots:
        state = "[green]busy[/green]" if slot.busy else "[dim]idle[/dim]"
        counts = (slot.prompt, slot.cached, slot.read, slot.written)
        table.add_row(str(slot.id), state, *map(str, counts), _bar(slot.prompt + slot.written, slot.n_ctx))
    return table


def _bar(used: int, most: int | None) -> str:
    if not most:
        return ""
    filled = min(_BAR, round(_BAR * used / most))
    return f"{'━' * filled}[dim]{'━' * (_BAR - filled)}[/dim] {used} of {most}"


def show(now: Snapshot, before: Snapshot | None = None) -> None:
    """Print the table once."""
    Console(highlight=False).print(screen(now, before))


def watch(take: Callable[[], Snapshot], interval: float) -> None:
    """Show a server until an interrupt. Where the output is not a terminal, each table is printed below the last."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for table in _screens(take, interval):
            console.print(table)
            console.file.flush()
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for table in _screens(take, interval):
            live.update(table, refresh=True)


def _screens(take: Callable[[], Snapshot], interval: float) -> Iterator[RenderableType]:
    before = None
    while True:
        now = take()
        yield screen(now, before)
        before = now if now.error is None else before
        time.sleep(interval)
