"""What the proof finds: a wrong build is refused, wrong runs or a wrong old batch are repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import select, update

from batch import proof, stages, verify
from batch.compiled import Compiled
from batch.stages import Job, in_process
from schemas.errors import BuildRefused, DamagedFile
from schemas.ledger import builds, history, tables
from schemas.ledger.files import BATCH, RUN, DataFile
from schemas.measures import ALL
from schemas.measures.measure import Call, Measure
from schemas.stored_file import StoredFile
from tests.engine.batching import Sealed, current, events


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def twice(job: Job) -> list[DataFile]:
    """A merge to which one piece came twice."""
    pieces = [piece for part in job.parts for piece in stages.fold(job, part)]
    return list(stages.merge(job, chain(pieces, pieces[-1:])))


def lacking(job: Job) -> list[DataFile]:
    """A merge to which one piece did not come."""
    pieces = [piece for part in job.parts for piece in stages.fold(job, part)]
    return list(stages.merge(job, pieces[1:]))


def alter(world: Sealed, file: DataFile, column: str) -> None:
    """Put a file in a file's place in which `column` is one more in every row, and let the ledger
    name that: as a fault of whoever wrote it would."""
    path, other = world.root.local(file.file.path), world.state / "altered.parquet"
    duckdb.execute(
        f"COPY (SELECT * REPLACE ({column} + 1 AS {column}) FROM '{path}') TO '{other}' "
        "(FORMAT parquet)"
    )
    stored = StoredFile.of(file.file.path, other.read_bytes())
    other.replace(path)
    with world.ledger.write() as connection:
        changed = update(tables.files).where(tables.files.c.path == stored.path)
        connection.execute(changed.values(sha256=stored.sha256, bytes=stored.bytes))


def file_of(world: Sealed, kind: str, version: str) -> DataFile:
    with world.ledger.read() as connection:
        f = tables.files.c
        query = select(tables.files).where(f.kind == kind, f.version == version)
        query = query.where(f.partials == "core", f.removed_state.is_(None)).order_by(f.id.desc())
        row = connection.execute(query).first()
    assert row is not None
    stored = StoredFile(row.path, row.sha256, row.bytes)
    return DataFile(kind, stored, row.from_epoch, row.until_epoch, row.rows)


@pytest.mark.parametrize("make", [twice, lacking])
def test_a_build_with_an_altered_partial_is_refused(
    world: Sealed, make: Callable[[Job], list[DataFile]]
) -> None:
    world.epochs(events(30))
    before = world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))

    with pytest.raises(BuildRefused) as refused:
        world.builder(make).all_steps("by_key", full=False, until=None)

    told = str(refused.value)
    assert "core, group (k = 'k1'), column '_count_0': built " in told
    assert ", expected 8, recounted 8" in told
    assert "rows of the view, group (k = 'k1'), column 'hits': built " in told
    assert len(told.splitlines()) <= 21
    build = builds.build(world.ledger, refused.value.build)
    assert build.state == "refused"
    assert build.message is not None
    assert "built" in build.message
    # what was served still is
    assert current(world.state, "by_key")["publication"] == before.publication.id
    assert world.finished("by_key") == world.expected("by_key", 1)
    (_, proven) = history.history(world.ledger).proofs
    assert proven.verdict == "refused"
    assert 0 < len(proven.evidence["differences"]) <= 20
    # and the next build is right
    world.builder().all_steps("by_key", full=False, until=None)
    assert world.finished("by_key") == world.expected("by_key", 2)


def test_a_wrong_run_is_repaired_and_recorded(world: Sealed) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))
    run = file_of(world, RUN, world.folding.view("by_key").version)
    alter(world, run, "_count_0")

    done = world.builder().all_steps("by_key", full=False, until=None)

    assert done.proof.verdict == "repair"
    assert done.publication.kind == "repair"
    assert world.finished("by_key") == world.expected("by_key", 2)
    evidence = history.history(world.ledger).proofs[-1].evidence
    first = next(each for each in evidence["differences"] if each["group"] == {"k": "k1"})
    assert (first["built"], first["expected"], first["recounted"]) == ("8", "9", "8")
    assert all(each["different"] == 0 for each in evidence["recount"])
    lines = [proof.line(each) for each in done.proof.differences]
    assert "core, group (k = NULL), column '_count_0': built 4, expected 5, recounted 4" in lines


def test_a_wrong_batch_view_is_repaired_by_a_full_build(world: Sealed) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    alter(world, file_of(world, BATCH, world.folding.view("by_key").version), "_count_0")
    world.epochs(events(12, start=30))

    with pytest.raises(BuildRefused, match=r"rows of the view, group \(k = 'k1'\)"):
        world.builder().all_steps("by_key", full=False, until=None)
    done = world.builder().all_steps("by_key", full=True, until=None)

    assert done.proof.verdict == "repair"
    assert world.finished("by_key") == world.expected("by_key", 2)


@pytest.mark.parametrize("view", ["by_key", "everything", "visitors"])
def test_where_the_master_is_large_only_what_is_new_is_read(world: Sealed, view: str) -> None:
    world.epochs(events(90))
    world.builder(proof_rows=0).all_steps(view, full=False, until=None)
    world.epochs(events(10, start=5))

    done = world.builder(proof_rows=0).all_steps(view, full=False, until=None)

    evidence = done.proof.evidence
    assert done.proof.verdict == "equal"
    assert evidence["answer"]["scope"] == "delta"
    assert evidence["answer"]["epochs"] == [2, 2]
    assert evidence["master"] == {"rows": 100, "rows_read": 10, "share": 0.1}
    assert "over 10 of 100 events" in done.proof.words


def test_a_difference_in_what_is_new_is_found_without_the_rest(world: Sealed) -> None:
    world.epochs(events(90))
    world.builder(proof_rows=0).all_steps("by_key", full=False, until=None)
    world.epochs(events(10, start=90))
    alter(world, file_of(world, RUN, world.folding.view("by_key").version), "_count_0")

    done = world.builder(proof_rows=0).all_steps("by_key", full=False, until=None)

    assert done.proof.verdict == "repair"
    assert done.proof.evidence["master"]["share"] == 1.0
    assert {each.table for each in done.proof.differences} == {"core", "rows of the new runs"}


def test_without_whole_runs_all_is_recounted(world: Sealed) -> None:
    world.epochs(events(30))
    with world.ledger.write() as connection:
        f = tables.files.c
        these = (f.kind == RUN) & (f.version == world.folding.view("by_key").version)
        connection.execute(tables.files.delete().where(these))

    done = world.builder(proof_rows=0).all_steps("by_key", full=False, until=None)

    assert done.proof.verdict == "equal"
    assert done.proof.evidence["partials"] == []
    assert done.proof.evidence["partials_skipped"] == "the runs have a hole"
    assert done.proof.evidence["answer"]["scope"] == "whole"


def test_altered_finished_rows_are_found(world: Sealed) -> None:
    world.epochs(events(30))

    def make(job: Job) -> list[DataFile]:
        files = stages.in_process(job)
        finished = next(each for each in files if each.table is None)
        path, other = world.root.local(finished.file.path), world.state / "other.parquet"
        duckdb.execute(f"COPY (FROM '{path}' LIMIT 3) TO '{other}' (FORMAT parquet)")
        stored = world.root.put("views/by_key/1", "0-other.parquet", other.read_bytes())
        rest = [each for each in files if each is not finished]
        return [*rest, DataFile("finished", stored, 1, 1, 3, version=finished.version)]

    with pytest.raises(BuildRefused, match="finished files"):
        world.builder(make).all_steps("by_key", full=False, until=None)


@pytest.mark.parametrize("kind", ["master", "runs"])
def test_a_damaged_file_is_named_and_nothing_is_published(world: Sealed, kind: str) -> None:
    world.epochs(events(30))
    (file,) = [
        each
        for each in (world.state / kind).rglob("*.parquet")
        if kind == "master" or ("by_key" in each.parts and "core" in each.parts)
    ]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(DamagedFile, match=file.name):
        world.builder().all_steps("by_key", full=False, until=None)

    assert builds.publications(world.ledger, "by_key") == []
    assert builds.build(world.ledger, 1).state == "failed"


def damaged(world: Sealed, kind: str) -> str:
    """Flip a bit in the view's core file of a kind; gives its name."""
    version = world.folding.view("by_key").version
    file = world.root.local(file_of(world, kind, version).file.path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return file.name


@pytest.mark.parametrize("gone", [False, True], ids=["flipped", "missing"])
@pytest.mark.parametrize("kind", [BATCH, RUN])
def test_a_full_build_needs_no_whole_base(world: Sealed, kind: str, gone: bool) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))
    name = damaged(world, kind)
    if gone:
        next(world.state.rglob(name)).unlink()

    with pytest.raises(DamagedFile, match=name):
        world.builder().all_steps("by_key", full=False, until=None)
    done = world.builder().all_steps("by_key", full=True, until=None)

    assert done.proof.verdict == "equal"
    assert name in done.proof.evidence["partials_skipped"]
    assert done.proof.evidence["partials"] == []
    assert done.proof.evidence["answer"]["scope"] == "whole"
    assert done.proof.evidence["master"]["share"] == 1.0
    assert "no partials (file " in done.proof.words
    assert world.finished("by_key") == world.expected("by_key", 2)


INSIDE = {
    "v": "SELECT k, round(sum(n::DOUBLE), 2) AS s, upper(mode(k)) AS m, "
    "last(u) FILTER (WHERE n > 0) + 1 AS l FROM hits GROUP BY k"
}


@pytest.mark.parametrize("wrong", ["finish", "measure"])
def test_what_an_expression_is_computed_from_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Of a sum of DOUBLE inside round() the text itself cannot be compared to the last bit: the sum
    is, by itself. Wrong is what a build makes of right partials, or the measure everywhere."""

    def spoilt(job: Job) -> list[DataFile]:
        finishes = tuple(replace(f, aggregate=f"({f.aggregate}) + 1000") for f in job.view.finishes)
        return in_process(replace(job, view=replace(job.view, finishes=finishes)))

    def raised(call: Call) -> Measure:
        measure = whole(call)
        return replace(measure, present=f"({measure.present}) + 1000")

    whole = ALL["sum"].build
    if wrong == "measure":
        monkeypatch.setitem(ALL, "sum", replace(ALL["sum"], build=raised))
    # definitions are read once in a session, and this one by a spoilt measure
    views = {"v": INSIDE["v"].replace("upper(mode(k))", f"'{wrong}'")}
    world = Sealed(tmp_path, views=views)
    with closing(world.ledger):
        world.epochs(events(30), events(20, start=30))
        with pytest.raises(BuildRefused):
            world.builder(make=spoilt if wrong == "finish" else in_process).all_steps(
                "v", full=True, until=None
            )


def test_what_a_build_finishes_is_found_where_only_what_is_new_is_read(tmp_path: Path) -> None:
    def spoilt(job: Job) -> list[DataFile]:
        finishes = tuple(replace(f, aggregate=f"({f.aggregate}) + 1") for f in job.view.finishes)
        return in_process(replace(job, view=replace(job.view, finishes=finishes)))

    views = {"v": "SELECT k, approx_count_distinct(u) AS visitors FROM hits GROUP BY k"}
    world = Sealed(tmp_path, views=views)
    with closing(world.ledger):
        world.epochs(events(60))
        world.builder().all_steps("v", full=False, until=None)
        world.epochs(events(5, start=60))
        with pytest.raises(BuildRefused):
            world.builder(make=spoilt, proof_rows=0).all_steps("v", full=False, until=None)
        done = world.builder(proof_rows=0).all_steps("v", full=False, until=None)
        assert done.proof.evidence["answer"]["scope"] == "delta"


def test_calls_inside_expressions_are_proven_and_verified(tmp_path: Path) -> None:
    world = Sealed(tmp_path, views=INSIDE)
    with closing(world.ledger):
        world.epochs(events(30), events(20, start=30))
        assert world.builder().all_steps("v", full=True, until=None).proof.verdict == "equal"
        world.epochs(events(40, start=50))
        assert world.builder().all_steps("v", full=False, until=None).proof.verdict == "equal"
        for share in (0, 1_000_000):
            done = world.builder(proof_rows=share).all_steps("v", full=True, until=None)
            assert done.proof.verdict == "equal"
        definitions = Compiled(world.ledger)
        found = verify.verify(
            world.ledger, world.root, definitions, "v", None, memory="256MB", threads=1
        )
        assert found.comparison.different == 0
