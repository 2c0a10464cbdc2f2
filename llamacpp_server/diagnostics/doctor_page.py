"""The doctor's findings as a self-contained HTML page without scripts, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from .doctor import Cost, Replay
from .recording import Recorded

__all__ = ["doctor_html"]

_WIDTH, _ROW, _LABEL = 760, 26, 170
_MOST_BARS: Final = 120
_STYLE: Final = """
:root { color-scheme: light dark; --bar: #4a7bd0; --again: #d0704a; --line: #8884 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .4rem; border-bottom: 1px solid var(--line) }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: currentColor }
.bar { fill: var(--bar) } .again { fill: var(--again) } td:nth-child(2) { white-space: nowrap }
"""


def doctor_html(
    server: Mapping[str, Any],
    calls: Sequence[Recorded],
    costs: Sequence[Cost],
    replays: tuple[Replay, Replay] | None = None,
) -> str:
    """Render the page; texts of servers and models are escaped.

    Args:
        server: The recording's server.
        calls: The recorded calls.
        costs: The findings of `diagnose`.
        replays: Replays of the recording, without and with the suggested flags.
    """
    known = ", ".join(f"{name}: {value}" for name, value in server.items() if value is not None)
    rows = "".join(
        f"<tr><td>{escape(cost.kind)}</td><td>{_saved(cost)}</td>"
        f"<td>{escape(cost.what)}<br><b>{escape(cost.remedy)}</b></td></tr>"
        for cost in costs
    )
    table = f"<table><tr><th>cause</th><th>cost</th><th>what helps</th></tr>{rows}</table>"
    parts = [
        f"<h1>Why it was slow</h1><p>{len(calls)} calls. {escape(known)}</p>",
        table if costs else "<p>No expensive cause was found.</p>",
        f"<h2>Seconds lost, by cause</h2>{_bars(costs)}" if any(cost.seconds for cost in costs) else "",
        f"<h2>Prompt tokens of each chat: from the cache, and read</h2>{_prompts(calls)}",
        _compared(replays) if replays is not None else "",
    ]
    meta = "<meta charset=utf-8><meta name=viewport content='width=device-width'><title>Why it was slow</title>"
    head = f"{meta}<style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _saved(cost: Cost) -> str:
    return f"{cost.failed} failed" if cost.failed else f"{cost.seconds:.1f} s"


def _bars(costs: Sequence[Cost]) -> str:
    most = max(cost.seconds for cost in costs) or 1.0
    lines = []
    for number, cost in enumerate(costs):
        y, width = number * _ROW, (_WIDTH - _LABEL - 70) * cost.seconds / most
        lines.append(
            f"<text x=0 y={y + 17}>{escape(cost.kind)}</text>"
            f"<rect class=again x={_LABEL} y={y + 4} width={width:.1f} height={_ROW - 8} />"
            f"<text x={_LABEL + width + 6:.1f} y={y + 17}>{cost.seconds:.1f} s</text>"
        )
    return (
        f"<svg viewBox='0 0 {_WIDTH} {len(costs) * _ROW}' role=img aria-label='seconds by cause'>{''.join(lines)}</svg>"
    )


def _prompts(calls: Sequence[Recorded]) -> str:
    found = [call for call in calls if call.kind == "chat" and call.timings is not None][-_MOST_BARS:]
    heights = [(c.timings.prompt_n, c.timings.cache_n or 0) for c in found if c.timings is not None]
    most = max((read + cached for read, cached in heights), default=0) or 1
    step, lines = _WIDTH / max(1, len(heights)), list[str]()
    for number, (read, cached) in enumerate(heights):
        x, width, low, high = number * step, step * 0.8, 150 * cached / most, 150 * read / most
        lines.append(f"<rect class=bar x={x:.1f} y={150 - low:.1f} width={width:.1f} height={low:.1f} />")
        lines.append(f"<rect class=again x={x:.1f} y={150 - low - high:.1f} width={width:.1f} height={high:.1f} />")
    return f"<svg viewBox='0 0 {_WIDTH} 150' role=img aria-label='prompt tokens of each chat'>{''.join(lines)}</svg>"


def _compared(replays: tuple[Replay, Replay]) -> str:
    before, after = replays
    rows = "".join(
        f"<tr><td>{name}</td><td>{getattr(before, field):{form}}</td><td>{getattr(after, field):{form}}</td></tr>"
        for name, field, form in (
            ("tokens read", "tokens_read", "d"),
            ("seconds", "seconds", ".1f"),
            ("failed", "failed", "d"),
        )
    )
    return f"<h2>Replay</h2><table><tr><th></th><th>without flags</th><th>with flags</th></tr>{rows}</table>"
