"""So many cases of a seed. One stream has several views, and several rounds of events, each split
in two ways. A case is a view, events of its stream and one split of them: what it presents is the
same to the bit as that of the other split, and so both are judged by DuckDB's own answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from time import process_time

from schemas.measures import ALL
from tests.generated import case, splits, streams
from tests.generated.case import Declared
from tests.generated.shrinking import Failing
from tests.generated.splits import Split
from tests.generated.streams import Event
from tests.generated.views import View, Writer

VIEWS, ROUNDS, SPLITS = 6, 3, 2
CASES = VIEWS * ROUNDS * SPLITS  # of one bundle


@dataclass(frozen=True)
class Bundle:
    """What is generated together."""

    declared: Declared
    views: dict[str, View]
    rounds: tuple[tuple[tuple[Event, ...], tuple[Split, Split]], ...]


@dataclass
class Tally:
    """How many cases there were and of what verdict, of what form those were that agreed, how often
    an aggregate was compared and how, and the cases that differ."""

    verdicts: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failing: list[Failing] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """All of them."""
        return self.verdicts.total()

    def add(self, other: Tally) -> None:
        """Take in another one."""
        self.verdicts += other.verdicts
        self.forms += other.forms
        self.compared += other.compared
        self.seconds += other.seconds
        self.failing += other.failing

    def text(self) -> str:
        """A line, and one per aggregate."""
        shares = ", ".join(f"{count} {kind}" for kind, count in self.verdicts.most_common())
        forms = ", ".join(f"{count} of {form}" for form, count in self.forms.most_common())
        lines = [f"{self.cases} cases, {self.seconds:.0f} s of one core: {shares}", f"  {forms}"]
        for name in ALL:
            ways = [(way, self.compared[f"{name} {way}"]) for way in ("equal", "within", "not")]
            told = ", ".join(f"{count} {way}" for way, count in ways if count)
            lines.append(f"  {name}: {told or 'never'}")
        return "\n".join(lines)


def bundle(seed: int, number: int) -> Bundle:
    """The bundle of a number: always the same for a seed."""
    chance = Random(f"{seed}-{number}")
    stream = streams.stream(chance, f"s{number}")
    reference = streams.reference(chance, "places", stream) if chance.random() < 0.5 else None
    declared = Declared(stream.name, stream.text, stream.typed, stream.key)
    if reference is not None:
        told = (reference.name, reference.text, reference.columns, reference.data, reference.rows)
        declared = Declared(stream.name, stream.text, stream.typed, stream.key, *told)
    functions = list(ALL)
    views = {}
    for at in range(VIEWS):
        writer = Writer(chance, stream, reference if chance.random() < 0.5 else None)
        # in turn, so that none is left out by chance
        focus = functions[(number * VIEWS + at) % len(functions)]
        views[f"v{at}"] = writer.view(f"v{at}", focus)
    rounds = []
    for _ in range(ROUNDS):
        events = streams.events(chance, stream)
        ordered = bool(stream.key)
        few, many = (splits.split(chance, len(events), n, ordered=ordered) for n in (2, 5))
        rounds.append((events, (few, many)))
    return Bundle(declared, views, tuple(rounds))


def run(seed: int, numbers: range) -> Tally:
    """Judge the bundles of these numbers. What is raised says of which bundle."""
    total = Tally()
    for number in numbers:
        try:
            for each in _bundle(bundle(seed, number)):
                total.add(each)
        except Exception as error:
            error.add_note(f"seed {seed}, bundle {number}")
            raise
    return total


def _bundle(made: Bundle) -> Iterator[Tally]:
    start = process_time()
    compiled = case.compiled(made.declared, {n: view.text for n, view in made.views.items()})
    for events, ways in made.rounds:
        tally = Tally()
        verdicts = case.judged(made.declared, compiled, events, ways)
        for name, verdict in verdicts.items():
            tally.verdicts[verdict.kind] += len(ways)
            if verdict.kind == "agreed":
                tally.forms[made.views[name].form] += len(ways)
            tally.compared.update(f"{function} {way}" for function, way in verdict.compared)
            if verdict.kind == "differs":
                found = Failing(made.declared, made.views[name], events, ways, verdict.text)
                tally.failing.append(found)
        tally.seconds, start = process_time() - start, process_time()
        yield tally
