"""What an epoch costs does not depend on how many there were."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import event, insert, select

from schemas.ledger import tables, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import (
    commit_epoch,
    epochs_after,
    news,
    progress,
)
from tests.faults.committer import (
    FLIGHTS,
    NOW,
    STREAM,
    VIEWS,
    commit_some,
    hold,
    next_epoch,
)


def history(ledger: Ledger, epochs: int, token: int) -> None:
    """As many epochs as if they had been committed one by one."""
    last = progress(ledger, FLIGHTS).epoch
    with ledger.read() as connection:
        epoch = connection.execute(select(tables.epochs)).first()
        file = connection.execute(select(tables.files)).first()
    assert epoch is not None
    assert file is not None
    numbers = range(last + 1, epochs + 1)
    at = [{"epoch": n, "start": n * 10 - 10, "until": n * 10, "n": n} for n in numbers]
    with ledger.write() as connection:
        connection.execute(
            insert(tables.epochs),
            [
                {
                    **epoch._mapping,
                    "epoch": e["epoch"],
                    "uuid": f"{e['n']:032d}",
                    "instant": NOW + timedelta(seconds=e["n"]),
                    "position": f'{{"0": {e["until"]}, "1": {e["until"]}}}',
                }
                for e in at
            ],
        )
        for partition in range(2):
            fields = {"stream": FLIGHTS, "partition": partition}
            connection.execute(
                insert(tables.ranges),
                [
                    {**fields, "epoch": e["epoch"], "start": e["start"], "until": e["until"]}
                    for e in at
                ],
            )
            path = f"segments/{partition}-"
            named = {k: v for k, v in file._mapping.items() if k != "id"}
            connection.execute(
                insert(tables.files),
                [
                    {
                        **named,
                        "from_epoch": e["n"],
                        "until_epoch": e["n"],
                        "path": f"{path}{e['n']}",
                    }
                    for e in at
                ],
            )
    assert progress(ledger, FLIGHTS).epoch == epochs
    commit_some(ledger, 1, token)


def steps(ledger: Ledger, act: Callable[[], object]) -> int:
    """How many instructions SQLite's machine runs: the cost, without a clock."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def counted(connection: Any, _record: object, _proxy: object) -> None:
        connection.set_progress_handler(step, 1)

    for engine in (ledger._writer, ledger._reader):
        event.listen(engine, "checkout", counted)
    try:
        act()
    finally:
        for engine in (ledger._writer, ledger._reader):
            event.remove(engine, "checkout", counted)
    return count


def test_ten_times_the_epochs_make_nothing_dearer(ledger: Ledger) -> None:
    token = hold(ledger).token
    commit_some(ledger, 3, token)

    def costs() -> dict[str, int]:
        last = progress(ledger, FLIGHTS)
        commit = next_epoch(last, token)
        return {
            "progress": steps(ledger, lambda: progress(ledger, FLIGHTS)),
            "commit_epoch": steps(ledger, lambda: commit_epoch(ledger, commit)),
            "repeat": steps(ledger, lambda: commit_epoch(ledger, commit)),
            "epochs_after": steps(ledger, lambda: epochs_after(ledger, FLIGHTS, last.epoch - 1, 9)),
            "from the middle": steps(
                ledger, lambda: epochs_after(ledger, FLIGHTS, last.epoch // 2, 2)
            ),
            "news": steps(ledger, lambda: news(ledger, {FLIGHTS: last.epoch}, 9)),
            "views": steps(ledger, lambda: versions.views(ledger)),
            "register": steps(ledger, lambda: versions.register(ledger, [STREAM], VIEWS, NOW)),
        }

    history(ledger, 100, token)
    early = costs()
    history(ledger, 10_000, token)
    late = costs()

    for name, cost in early.items():
        assert cost > 0
        assert abs(late[name] - cost) <= max(3, cost * 0.02), name
