"""What the demo draws: a table of airlines, below it facts and addresses; or all in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from look import DAYS, Look
from rich.console import Group
from rich.table import Table
from rich.text import Text

LINES_AROUND = 20
"""Lines of a terminal that are no airline."""

COLUMNS = (
    ("day", "left"),
    ("airline", "left"),
    ("flights", "right"),
    ("late", "right"),
    ("mean delay", "right"),
    ("p90", "right"),
    ("planes", "right"),
    ("top three", "left"),
)
MANY_LATE = 40.0  # percent

Facts = Mapping[str, str]


def airlines_per_day(height: int) -> int:
    """How many fit a terminal of so many lines."""
    return max(1, (height - LINES_AROUND) // DAYS)


def facts(seen: Look, before: Look, sending: str, rebuilds: str) -> Facts:
    """By name, in words; rates are those since `before`."""
    passed = seen.clock - before.clock
    rate = (seen.counts.events - before.counts.events) / passed if passed else 0.0
    age = "no event yet" if seen.age is None else f"the newest {seen.age:.1f} s old"
    epoch, cut = seen.coverage["epoch"], seen.coverage["cut"]
    told = {
        "events": f"{rate:,.0f}/s, epoch {epoch}, {age}: {seen.flights:,} flights, "
        f"{seen.counts.duplicates:,} duplicates, {seen.counts.rejects:,} rejects",
        "answer": _layers(seen, epoch, cut),
        "proof": "none yet",
        "rebuilds": rebuilds,
    }
    if seen.proof:
        ago = (seen.at - seen.proof.instant).total_seconds()
        told["proof"] = f"{seen.proof.view}, {ago:.0f} s ago, {seen.proof.words}"
    if sending:
        told["sending"] = sending
    if seen.coverage["degraded"]:
        told["degraded"] = str(seen.coverage["degraded"])
    return told


def _layers(seen: Look, epoch: int, cut: int) -> str:
    """How much of what is answered comes from which layer."""
    if not cut:
        return f"carrier_day: all from speed, to epoch {epoch}; no batch view yet"
    share = 100 * seen.counts.in_batch / seen.counts.events if seen.counts.events else 0.0
    return (
        f"carrier_day: {share:.1f} % from batch, epochs 1 to {cut}; "
        f"{100 - share:.1f} % from speed, to {epoch}"
    )


def line(seen: Look, told: Facts) -> str:
    return f"up to {_day(seen.day)}; " + "; ".join(f"{name}: {each}" for name, each in told.items())


def drawn(seen: Look, told: Facts, addresses: Facts, said: Sequence[str]) -> Group:
    below = Table.grid(padding=(0, 2), expand=False)
    below.add_column(style="bold cyan", no_wrap=True)
    below.add_column()
    for name, each in told.items():
        below.add_row(name, Text(each))
    below.add_row("", "")
    for name, each in addresses.items():
        below.add_row(name, Text(each, overflow="fold"))
    return Group(
        _airlines(seen), "", below, *(Text(each, style="dim", no_wrap=True) for each in said)
    )


def _airlines(seen: Look) -> Table:
    title = f"the busiest airlines of three days up to {_day(seen.day)} (simulated)"
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for name, side in COLUMNS:
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    before = ""
    for day, *cells in seen.rows:
        if before and day != before:
            table.add_row()
        shown = "" if day == before else f"{date.fromisoformat(day):%a %d %b}"
        table.add_row(shown, *_cells(*cells))
        before = day
    return table


def _cells(
    airline: str | None,
    flights: int,
    late: float,
    mean: float | None,
    p90: float | None,
    planes: int,
    destinations: Sequence[str] | None,
) -> list[Text]:
    return [
        Text(airline or "unknown"),
        Text(f"{flights}"),
        Text(f"{late:.0f} %", style="red" if late >= MANY_LATE else ""),
        *(Text("" if each is None else f"{round(each)} min") for each in (mean, p90)),
        Text(f"{planes}"),
        Text(" ".join(destinations or ())),
    ]


def _day(day: date | None) -> str:
    return f"{day.day} {day:%B %Y}" if day else "the first flight"
