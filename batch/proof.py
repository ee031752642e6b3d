"""The comparison that allows a publication, without Spark.

(a) The new batch view is what the base and the runs since come to, partial by partial. Neither was
    made from the master by this build, so a fault of it shows.
    Where the runs have a hole, and for a full build where a file of either is damaged, there is
    nothing to compare with.
(b) The presented rows are those of V's own SELECT over the master: over all of it for a full build,
    where (a) had nothing to compare with and where it is small enough; else over what is new,
    against the runs alone.

Where (a) finds a difference, everything is counted anew from the master. If that agrees with the
build, the runs or the old batch view were wrong and the build is their repair; else it is refused,
as it is where (b) alone finds one.

What retention removed from the master is known by its base alone. Then (b) over all of the master
has two halves: V's own SELECT over what is left equals the presented fold of it, group by group;
and the base merged with that fold is the new batch view, partial by partial. A group of which the
base has no rows is so proven by V's own SELECT as before; the others rest on the base, which was
proven when the detail was let go. How many there are of each is in the evidence.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from batch import compare, recount, stages, standing
from batch.compare import Comparison, Difference
from batch.stages import CORE
from schemas import reading
from schemas.compile import CompiledStream, CompiledView, PartialTable, portable, sql
from schemas.engine import Engine
from schemas.errors import DamagedFile
from schemas.ledger.builds import Build, BuildInputs
from schemas.ledger.files import BATCH, FINISHED, DataFile
from schemas.reading import Rows
from schemas.storage import DataRoot

Verdict = Literal["equal", "repair", "refused"]

EXACT = "$exact"


@dataclass(frozen=True)
class Proof:
    """What was found; `evidence` is what the ledger keeps."""

    verdict: Verdict
    evidence: Mapping[str, Any]
    differences: tuple[Difference, ...]

    @property
    def words(self) -> str:
        """In one line."""
        told = self.evidence
        parts, answer, master = told["partials"], told["answer"], told["master"]
        count = sum(each["built"] for each in parts)
        first = (
            f"{_many(count, 'partial')} against base and runs"
            if parts
            else f"no partials ({told['partials_skipped']})"
        )
        second = f"{_many(answer['built'], 'row')} against the view's own SELECT over "
        second += f"{master['rows_read']:,} of {master['rows']:,} events"
        if told["retention"] is not None:
            second += f", {_many(told['retention']['on_base'], 'group')} on the base"
        last = f"; {told['different']:,} differ" if told["different"] else ""
        if told["left_out"]:
            second += f", {told['left_out']:,} of which do not fit its declaration"
        return f"{self.verdict}: {first}; {second}{last}"


def line(difference: Difference) -> str:
    """A difference as a line for a terminal."""
    listed = difference.group.items()
    group = ", ".join(f"{key} = {_quoted(value)}" for key, value in listed)
    told = f"{difference.table}, group ({group})"
    told += f", column {difference.column!r}" if difference.column else ""
    told += f": built {_shown(difference.built)}, expected {_shown(difference.expected)}"
    if difference.recounted is not None:
        told += f", recounted {difference.recounted}"
    return told


def prove(
    root: DataRoot,
    stream: CompiledStream,
    view: CompiledView,
    build: Build,
    inputs: BuildInputs,
    files: Sequence[DataFile],
    *,
    memory: str,
    threads: int,
    proof_rows: int,
    temp: Path | None = None,
) -> Proof:
    """Compare the files of a build that is built."""
    begun = time.monotonic()
    with stages.working(memory, threads, temp) as engine:
        stages.load_references(engine, root, view.references)
        work = _Work(engine, root, stream, view, build, inputs, files)
        proof = work.prove(proof_rows)
    evidence = {**proof.evidence, "seconds": round(time.monotonic() - begun, 3)}
    return replace(proof, evidence=evidence)


class _Work:
    """One proof at work in one engine."""

    def __init__(
        self,
        engine: Engine,
        root: DataRoot,
        stream: CompiledStream,
        view: CompiledView,
        build: Build,
        inputs: BuildInputs,
        files: Sequence[DataFile],
    ) -> None:
        self.engine, self.root, self.stream, self.view = engine, root, stream, view
        self.build, self.inputs, self.files = build, inputs, files
        self.total = sum(each.rows for each in inputs.whole_master)
        self.left_out = 0  # accepted events that do not fit the version, of those that were read
        self.checked: dict[str, Path] = {}  # files whose sha256 was looked at
        self.folded: dict[str, str] = {}  # by table, once they are needed
        self.built = {table.name: self._built(table) for table in view.tables}
        self.skipped = self._nothing_to_compare()

    def prove(self, proof_rows: int) -> Proof:
        whole = self.build.full or self.skipped is not None or self.total <= proof_rows
        tables = self.view.tables if self.skipped is None else ()
        found = [compare.partials(self.engine, table, *self._partials(table)) for table in tables]
        answer = self._whole() if whole else self._delta()
        finished = self._finished(whole)
        on_base = self._anew() if whole and self.inputs.retained else []
        recounted: list[Comparison] = []
        verdict: Verdict = "equal"
        if any(each.different for each in found):
            recounted = [*(on_base or self._anew()), answer if whole else self._whole()]
            wrong = any(each.different for each in [*recounted, finished])
            verdict = "refused" if wrong else "repair"
        elif any(each.different for each in (answer, finished, *on_base)):
            verdict = "refused"
        shown = [each for one in (answer, finished, *on_base) for each in one.differences]
        shown = shown[: compare.MOST // 2]  # half of them in the words of the view
        told = [*shown, *self._with_recount(each for one in found for each in one.differences)]
        told = told[: compare.MOST]
        read = whole or bool(recounted)
        rows_read = self.total if read else sum(each.rows for each in self.inputs.master)
        evidence = {
            "build": self.build.id,
            "epochs": [1, self.build.cut],
            "partials": [each.json() for each in found],
            "partials_skipped": self.skipped,
            "answer": {
                **answer.json(),
                "scope": "whole" if whole else "delta",
                "epochs": [1 if whole else self.build.base_cut + 1, self.build.cut],
            },
            "finished": finished.json(),
            "recount": [each.json() for each in recounted],
            "master": {
                "rows": self.total,
                "rows_read": rows_read,
                "share": rows_read / self.total if self.total else 1.0,
            },
            "retention": self._retention(on_base),
            "left_out": self.left_out,
            "by_calls": compare.by_calls(self.view),
            "different": sum(each.different for each in (*found, answer, finished, *on_base)),
            "differences": [each.json() for each in told],
            "seed": None,  # nothing is sampled
        }
        return Proof(verdict, evidence, tuple(told))

    # ---- (a)

    def _nothing_to_compare(self) -> str | None:
        """Why there is no base, or no whole runs, to compare the partials with. Damage is a reason
        for a full build alone, which makes neither part of what it builds."""
        if not self.inputs.runs_whole:
            return "the runs have a hole"
        try:
            self._paths([*self.inputs.base_batch, *self.inputs.runs])
        except DamagedFile as error:
            if not self.build.full:
                raise
            return f"file {error.path!r} is damaged"
        return None

    def _partials(self, table: PartialTable) -> tuple[str, str]:
        """The built partials, and the merge of base and runs."""
        held = (self.inputs.base_batch, self.inputs.runs)
        files = [each for listed in held for each in listed if each.table == table.name]
        expected = table.merge(f"({self._read(table, files)})")
        expected = self._within(expected)
        return self.built[table.name], self._kept(f"$expected_{table.name}", expected)

    def _with_recount(self, differences: Iterable[Difference]) -> list[Difference]:
        """With what the recount says of each."""
        told = []
        for each in differences:
            table = next(t for t in self.view.tables if t.name == each.table)
            told.append(replace(each, recounted=self._recounted_value(table, each)))
        return told

    def _recounted_value(self, table: PartialTable, difference: Difference) -> str:
        keys = [
            f"{sql.name(key)}::VARCHAR IS NOT DISTINCT FROM "
            f"{'NULL' if value is None else sql.text(value)}"
            for key, value in difference.group.items()
        ]
        names = [difference.column] if difference.column else [n for n, _, _ in table.values]
        shown = ", ".join(f"{sql.name(name)}::VARCHAR" for name in names)
        relation = sql.name(f"$anew_{table.name}")
        query = f"SELECT {shown} FROM {relation} WHERE {' AND '.join(keys) or 'true'}"
        row = self.engine.con.execute(query).fetchone()
        if row is None:
            return compare.MISSING
        if difference.column:
            return "NULL" if row[0] is None else str(row[0])
        return ", ".join(f"{name} = {value}" for name, value in zip(names, row, strict=True))

    # ---- (b)

    def _whole(self) -> Comparison:
        """All presented rows, with V's own SELECT over the whole master; where there is a base, the
        rows that what the master holds still comes to."""
        if self.inputs.retained:
            folded = {table.name: self._folded(table) for table in self.view.tables}
            return self._answer(
                standing.presented(self._judged, folded),
                self.inputs.whole_master,
                self.build.retained + 1,
                self.build.cut,
                compare.KEPT_ROWS,
            )
        presented = self._judged.present(self._core())
        return self._answer(presented, self.inputs.whole_master, 1, self.build.cut)

    def _delta(self) -> Comparison:
        """The rows of the new runs alone, with V's own SELECT over the new master."""
        merged: dict[str, str] = {}
        for table in self.view.tables:
            files = [each for each in self.inputs.runs if each.table == table.name]
            select = table.merge(f"({self._read(table, files)})")
            merged[table.name] = self._kept(f"$new_{table.name}", select)
        files = [each for each in self.inputs.master if each.last > self.build.base_cut]
        first = self.build.base_cut + 1
        presented = standing.presented(self._judged, merged)
        return self._answer(presented, files, first, self.build.cut, compare.NEW_ROWS)

    def _answer(
        self,
        presented: str,
        master: Sequence[DataFile],
        first: int,
        last: int,
        name: str = compare.ROWS,
    ) -> Comparison:
        listed = self._master(master)
        recount.count(self.engine, self.view, listed, first, last)
        self.left_out = reading.left_out(self.engine, self.view, listed, first, last)
        exact = self._kept(EXACT, self._within(self._judged.exact))
        ours = self._kept("$presented", self._within(presented))
        return compare.rows(self.engine, self._judged, ours, exact, name)

    @property
    def _judged(self) -> CompiledView:
        """The view with a column for each call that is compared by itself."""
        return self.view.by_calls or self.view

    # ---- what everybody else reads

    def _finished(self, whole: bool) -> Comparison:
        """The finished files, with the rows that the batch view presents; `whole` where V's own
        SELECT was asked about all of them."""
        files = [each for each in self.files if each.kind == FINISHED]
        there = self.view.within(self.engine.files(self._paths(files)), self.inputs.bounds)
        presented = f"({self.view.present(self._core())})"
        shown = portable.select(self.view.columns, presented)
        shown = self._kept("$shown", self._within(shown))
        different = compare.unlike(self.engine, there, shown)
        if self.inputs.retained or (self.view.finishes and not whole):
            # no own SELECT has seen the finished columns of these groups
            presented = f"({standing.presented(self.view, self.built)})"
            anew = portable.select(self.view.columns, presented)
            different += compare.unlike(self.engine, there, f"({self._within(anew)})")
        rows = sum(each.rows for each in files)
        found = (
            Difference("finished files", {}, "", f"{rows} rows", f"{different} of them otherwise"),
        )
        expected = compare.count(self.engine, shown)
        return Comparison("finished", rows, expected, different, found if different else ())

    # ---- the recount of partials: after a difference, and of what rests on a base

    def _anew(self) -> list[Comparison]:
        """The build with the whole master folded anew, and merged with what was removed of it."""
        found = []
        for table in self.view.tables:
            retained = [each for each in self.inputs.retained if each.table == table.name]
            select = f"FROM {self._folded(table)}"
            if retained:
                held = stages.partials(table, self.engine.files(self._paths(retained)))
                select = table.merge(f"({select} UNION ALL {held})")
            anew = self._kept(f"$anew_{table.name}", self._within(select))
            found.append(compare.partials(self.engine, table, self.built[table.name], anew))
        return found

    def _folded(self, table: PartialTable) -> str:
        """The partials of the whole master, as far as it is there; folded once."""
        if table.name not in self.folded:
            listed = self._master(self.inputs.whole_master)
            self.engine.count_from(reading.counted(self.view, listed, 1, self.build.cut))
            folded = stages.partials(table, f"({table.fold})")
            self.folded[table.name] = self._kept(f"$folded_{table.name}", folded)
        return self.folded[table.name]

    def _retention(self, on_base: Sequence[Comparison]) -> dict[str, Any] | None:
        """How many groups rest on the base, and how many V's own SELECT has seen whole."""
        if not on_base:
            return None
        groups = on_base[0].built
        core = self._paths(each for each in self.inputs.retained if each.table == CORE)
        base = self.view.within(self.engine.files(core), self.inputs.bounds)
        held = compare.count(self.engine, base)
        return {
            "epoch": self.build.retained,
            "on_base": held,
            "own_select": groups - held,
            "partials": [each.json() for each in on_base],
        }

    # ---- files

    def _built(self, table: PartialTable) -> str:
        """The build's partials of a table."""
        files = [each for each in self.files if each.kind == BATCH and each.table == table.name]
        source = self.engine.files(self._paths(files))
        select = self._within(stages.partials(table, source))
        return self._kept(f"$built_{table.name}", select)

    def _core(self) -> str:
        """The build's core with its finished columns, as readers present it."""
        files = [each for each in self.files if each.kind == BATCH and each.table == CORE]
        return self.engine.files(self._paths(files))

    def _within(self, select: str) -> str:
        """What a SELECT of partials, or of the view's rows, gives of groups that are kept."""
        return f"FROM {self.view.within(f'({select})', self.inputs.bounds)}"

    def _read(self, table: PartialTable, files: Sequence[DataFile]) -> str:
        """SELECT of the partials in these files, all columns in their types."""
        # the core of a batch view has columns that a run lacks
        batch = [each for each in files if each.kind == BATCH]
        runs = [each for each in files if each.kind != BATCH]
        sources = [self.engine.files(self._paths(listed)) for listed in (batch, runs) if listed]
        sources = sources or [reading.empty(stages.columns(table))]
        return " UNION ALL ".join(stages.partials(table, source) for source in sources)

    def _master(self, files: Sequence[DataFile]) -> list[Rows]:
        """The rows of master files, by the declaration that accepted them."""
        paths = zip(files, self._paths(files), strict=True)
        return list(reading.rows(self.engine, self.inputs.declared, paths))

    def _paths(self, files: Iterable[DataFile]) -> list[Path]:
        """Where files lie, each of them checked once."""
        found = []
        for each in files:
            path = each.file.path
            if path not in self.checked:
                self.checked[path] = self.root.check(each.file)
            found.append(self.checked[path])
        return found

    def _kept(self, name: str, select: str) -> str:
        """A table that holds what a SELECT gives."""
        quoted = sql.name(name)
        self.engine.execute(f"CREATE OR REPLACE TEMP TABLE {quoted} AS {select}")
        return quoted


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _quoted(value: str | None) -> str:
    return "NULL" if value is None else repr(value)


def _shown(value: str | None) -> str:
    return "NULL" if value is None else value
