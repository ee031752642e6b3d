"""A case that fails, made smaller as long as it still fails: pieces of its view, events, tasks and
merges are left out, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.generated import case
from tests.generated.case import Declared
from tests.generated.splits import Split, Tree
from tests.generated.streams import Event
from tests.generated.views import Item, View

MOST = 400  # attempts


@dataclass(frozen=True)
class Failing:
    """A case whose answers differ, and how."""

    declared: Declared
    view: View
    events: tuple[Event, ...]
    splits: tuple[Split, Split]
    text: str


def shrunk(failing: Failing) -> Failing:
    """The smallest that was found."""
    left = MOST
    while left:
        for smaller in _smaller(failing):
            left -= 1
            text = _difference(smaller)
            if text is not None:
                failing = replace(smaller, text=text)
                break
            if not left:
                break
        else:
            break
    return failing


def _difference(failing: Failing) -> str | None:
    views = {failing.view.name: failing.view.text}
    try:
        verdict = case.judge(failing.declared, views, failing.events, failing.splits)
    except AssertionError:  # it is another case now
        return None
    found = verdict[failing.view.name]
    return found.text if found.kind == "differs" else None


def _smaller(failing: Failing) -> Iterator[Failing]:
    """From bold to timid."""
    events = len(failing.events)
    size = events
    while size:
        for start in range(0, events, size):
            yield _without(failing, range(start, min(start + size, events)))
        size //= 2
    for view in _views(failing.view):
        yield replace(failing, view=view)
    one, other = failing.splits
    for split in _splits(one):
        yield replace(failing, splits=(split, other))
    for split in _splits(other):
        yield replace(failing, splits=(one, split))


def _without(failing: Failing, gone: range) -> Failing:
    left = [at for at in range(len(failing.events)) if at not in gone]
    places = {old: new for new, old in enumerate(left)}
    events = tuple(failing.events[at] for at in left)
    one, other = (
        replace(split, tasks=tuple(tuple(places[at] for at in t if at in places) for t in tasks))
        for split in failing.splits
        for tasks in [split.tasks]
    )
    return replace(failing, events=events, splits=(one, other))


def _views(view: View) -> Iterator[View]:
    items = view.items
    for at in range(len(items)):
        if len(items) > 1:
            yield replace(view, items=items[:at] + items[at + 1 :])
        for item in _items(items[at]):
            yield replace(view, items=(*items[:at], item, *items[at + 1 :]))
    for at in range(len(view.group)):
        yield replace(view, group=view.group[:at] + view.group[at + 1 :])
        same = [each for each in items if view.group[at] not in (each.alias, each.sql)]
        yield replace(view, group=view.group[:at] + view.group[at + 1 :], items=tuple(same))
    if view.where:
        yield replace(view, where="")
    if " JOIN " in view.source:
        source = view.source.split(" JOIN ")[0].removesuffix(" LEFT").removesuffix(" ASOF")
        yield replace(view, source=source)


def _items(item: Item) -> Iterator[Item]:
    """An aggregate of it alone, and that without its FILTER."""
    for call in item.calls:
        if call != item.sql:
            yield Item(call, item.alias or "c", (call,))
        plain, filtered, _ = call.partition(" FILTER (WHERE ")
        if filtered:
            yield Item(plain, item.alias or "c", (plain,))


def _splits(split: Split) -> Iterator[Split]:
    if split.files:
        yield replace(split, files=frozenset())
    flat = tuple(_leaves(split.tree))
    if flat != split.tree:
        yield replace(split, tree=flat)
    for gone in range(len(split.tasks)):
        if len(split.tasks) > 1:
            # its events are the next task's, or the one's before
            tasks = list(split.tasks)
            moved = tasks.pop(gone)
            to = min(gone, len(tasks) - 1)
            tasks[to] = tuple(sorted((*moved, *tasks[to])))
            leaves = tuple(at - (at > gone) for at in flat if at != gone)
            yield Split(tuple(tasks), leaves)


def _leaves(tree: Tree) -> Iterator[int]:
    if isinstance(tree, int):
        yield tree
    else:
        for each in tree:
            yield from _leaves(each)
