"""Splits: which events each task folds, and in what order their partials are merged.

A tree of numbers of tasks, such as `(((0,), (1, 2)), (3, (4,)))`: a pair of brackets is one merge.
Depth stands for what a task's partials go through: segments into a run, runs into a larger one,
runs into a batch view (with its base before), batch and speed into an answer. A merge of one thing
is there too, and so is a task without events.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

Tree = int | tuple["Tree", ...]


@dataclass(frozen=True)
class Split:
    """Numbers of events by task, tasks in the order of their epochs; how their partials are merged;
    the merges (by their place in the walk, the root is 0) that go through a Parquet file."""

    tasks: tuple[tuple[int, ...], ...]
    tree: tuple[Tree, ...]
    files: frozenset[int] = frozenset()


def whole(count: int) -> Split:
    """Everything in one task."""
    return Split((tuple(range(count)),), (0,))


def split(chance: Random, count: int, most: int, *, ordered: bool) -> Split:
    """Any partition of the events into at most `most` tasks, and any tree over them. Where a stream
    has a primary key, tasks are epochs, and these hold events as they follow each other."""
    pieces = chance.randint(1, most)
    if ordered:
        cuts = sorted(chance.randint(0, count) for _ in range(pieces - 1))
        edges = [0, *cuts, count]
        tasks = [tuple(range(edges[at], edges[at + 1])) for at in range(pieces)]
    else:
        dealt: list[list[int]] = [[] for _ in range(pieces)]
        for at in range(count):
            chance.choice(dealt).append(at)
        tasks = [tuple(each) for each in dealt]
    leaves: list[Tree] = list(range(pieces))
    if not ordered or chance.random() < 0.5:
        chance.shuffle(leaves)
    tree = _tree(chance, leaves)
    files = frozenset({chance.randrange(3)}) if chance.random() < 0.15 else frozenset[int]()
    return Split(tuple(tasks), tree, files)


def _tree(chance: Random, leaves: list[Tree]) -> tuple[Tree, ...]:
    while len(leaves) > 2 and chance.random() < 0.8:
        at = chance.randrange(len(leaves) - 1)
        width = chance.choice((1, 2, 2, 3))
        leaves[at : at + width] = [tuple(leaves[at : at + width])]
    if chance.random() < 0.2:
        leaves = [tuple(leaves)]
    return tuple(leaves)
