"""One build, step by step: plan, rebuild, prove, publish. Each step can be a process of its own.

    plan       the lease, the cut, the build's row                       -> building
    rebuild    the files of the batch view, then their names             -> built
    prove      the comparison, recorded                                  -> equal, repair, refused
    publish    the pointer, `current.json`, what nobody needs any more   -> published

A step works under the build's lease and keeps it alive; between two processes it is parked. A
build that nobody goes on with is released: it has failed, and the lease is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from batch import bounds, plan, proof, publish, stages
from batch.compiled import Compiled
from batch.holding import kept
from batch.proof import Proof
from batch.settings import Settings
from batch.stages import Job
from schemas.engine import OWN_FAULTS
from schemas.errors import BuildFailed, BuildNotReady, BuildRefused, StaleToken
from schemas.failpoints import failpoint
from schemas.ledger import builds, leases
from schemas.ledger.builds import Build, PublicationRow
from schemas.ledger.connect import Ledger
from schemas.ledger.files import BATCH, DataFile
from schemas.ledger.leases import Lease
from schemas.ledger.process import is_running, this_process
from schemas.storage import DataRoot

Make = Callable[[Job], list[DataFile]]
BUILT = ("built", "equal", "repair")
UNFINISHED = ("building", *BUILT)


@dataclass(frozen=True)
class Done:
    """A view that was built and published, in numbers."""

    build: Build
    rows: int
    proof: Proof
    publication: PublicationRow
    seconds: float

    def json(self) -> dict[str, Any]:
        return {
            "view": self.build.view,
            "build": self.build.id,
            "publication": self.publication.id,
            "cut": self.build.cut,
            "base_cut": self.build.base_cut,
            "full": self.build.full,
            "rows": self.rows,
            "verdict": self.proof.verdict,
            "proof": self.proof.words,
            "differences": [proof.line(each) for each in self.proof.differences],
            "seconds": round(self.seconds, 1),
        }


class Builder:
    """Builds views of one state. `make` gives the files of a job, and is called when there is one;
    `threads` are the proof's."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        make: Make,
        now: Callable[[], datetime],
        threads: int,
    ) -> None:
        self._settings, self._ledger, self._make = settings, ledger, make
        self._now, self._threads = now, threads
        self._root = DataRoot(settings.state)
        self._holder = this_process()
        self._compiled = Compiled(ledger)

    def all_steps(self, view: str, *, full: bool, until: int | None) -> Done:
        """From the plan to the publication."""
        begun = time.monotonic()
        with self._taken(view) as (lease, _):
            build = self._begin(view, lease, full, until)
            with self._failing(build, passing=True):
                rows = self._rebuild(build)
                found = self._prove(build)
                published = self._publish(build)
        return Done(build, rows, found, published, time.monotonic() - begun)

    def plan(self, view: str, *, full: bool, until: int | None) -> Build:
        """Begin a build and leave it to whoever does its next step."""
        with self._taken(view, release=False) as (lease, end):
            try:
                build = self._begin(view, lease, full, until)
            except BaseException:
                leases.release(self._ledger, lease)
                raise
            end()
            self._park(lease, build)
        return build

    def rebuild(self, build_id: int) -> Build:
        """Write the files of a build; once more, after they are named, does nothing."""
        with self._resumed(build_id) as (lease, build, end):
            if build.state not in BUILT:
                _must_be(build, ("building",))
                plan.remove_leftovers(self._ledger, self._root, build)  # of a try before
                with self._failing(build):
                    self._rebuild(build)
            end()
            self._park(lease, build)
        return builds.build(self._ledger, build_id)

    def prove(self, build_id: int) -> Proof:
        """Compare them. Raises BuildRefused."""
        with self._resumed(build_id) as (lease, build, end):
            _must_be(build, BUILT)
            with self._failing(build):
                found = self._prove(build)
            end()
            self._park(lease, build)
        return found

    def publish(self, build_id: int) -> PublicationRow:
        """Serve them. A build that is published already is no error."""
        build = builds.build(self._ledger, build_id)
        if build.state == "published":
            now = self._now()
            window = self._settings.rollback_window
            return publish.publish(self._ledger, self._root, build, now, window)
        with self._resumed(build_id) as (lease, build, end):
            found = self._publish(build)
            end()
            leases.release(self._ledger, lease)
        return found

    def release(self, build_id: int) -> Build:
        """Give up a build that nobody goes on with; one that has ended stays as it is. Raises
        LeaseHeld while another process works on it."""
        build = builds.build(self._ledger, build_id)
        if build.state not in UNFINISHED:
            return build
        with suppress(StaleToken), self._resumed(build_id) as (lease, found, end):
            self._fail(found, f"build {build_id} was given up before it was published")
            end()
            leases.release(self._ledger, lease)
        return builds.build(self._ledger, build_id)

    # ---- steps, under the lease

    def _begin(self, view: str, lease: Lease, full: bool, until: int | None) -> Build:
        return plan.begin(
            self._ledger,
            self._root,
            self._settings,
            view,
            lease,
            self._now(),
            full=full,
            until=until,
            bound=bounds.wanted(self._settings, self._ledger, self._compiled, view, self._now()),
        )

    def _rebuild(self, build: Build) -> int:
        failpoint("rebuild.before_files")
        stream, view = self._compiled.of(build.view, build.version)
        inputs = builds.inputs(self._ledger, build.id)
        job = plan.job(self._root, self._settings, stream, view, build, inputs)
        files = made(job, self._make)
        failpoint("rebuild.after_files")
        builds.finish(self._ledger, build.id, build.token, files, self._now())
        return sum(each.rows for each in files if each.table == stages.CORE)

    def _prove(self, build: Build) -> Proof:
        stream, view = self._compiled.of(build.view, build.version)
        found = proof.prove(
            self._root,
            stream,
            view,
            build,
            builds.inputs(self._ledger, build.id),
            builds.build_files(self._ledger, build.id),
            memory=self._settings.memory,
            threads=self._threads,
            proof_rows=self._settings.proof_rows,
            temp=self._settings.scratch,
        )
        lines = [proof.line(each) for each in found.differences]
        builds.prove(
            self._ledger,
            build.id,
            build.token,
            found.verdict,
            found.evidence,
            self._now(),
            message=lines[0] if lines else None,
        )
        failpoint("rebuild.after_proof")
        if found.verdict == "refused":
            raise BuildRefused(build.id, build.view, lines)
        return found

    def _publish(self, build: Build) -> PublicationRow:
        now = self._now()
        window = self._settings.rollback_window
        found = publish.publish(self._ledger, self._root, build, now, window)
        before = now - self._settings.keep_removed
        publish.remove_old(self._ledger, self._root, build.stream, before)
        return found

    # ---- the lease

    @contextmanager
    def _taken(
        self, view: str, *, release: bool = True
    ) -> Iterator[tuple[Lease, Callable[[], None]]]:
        name = builds.build_lease(view)
        ttl = self._settings.lease_ttl
        lease = leases.take(self._ledger, name, self._holder, self._now(), ttl, alive=is_running)
        try:
            with kept(self._settings, lease, self._now) as end:
                yield lease, end
        finally:
            if release:
                leases.release(self._ledger, lease)

    @contextmanager
    def _resumed(self, build_id: int) -> Iterator[tuple[Lease, Build, Callable[[], None]]]:
        now, ttl = self._now(), self._settings.lease_ttl
        lease = builds.resume(self._ledger, build_id, self._holder, now, ttl, is_running)
        try:
            with kept(self._settings, lease, self._now) as end:
                yield lease, builds.build(self._ledger, build_id), end
        except BaseException:
            left = builds.build(self._ledger, build_id)
            if left.state in UNFINISHED:  # for whoever repeats the step
                with suppress(StaleToken):
                    self._park(lease, left)
            else:
                leases.release(self._ledger, lease)
            raise

    def _park(self, lease: Lease, build: Build) -> None:
        builds.park(self._ledger, lease, build.id, self._now(), self._settings.build_idle)

    @contextmanager
    def _failing(self, build: Build, *, passing: bool = False) -> Iterator[None]:
        """Records why a build ends that does not come to its proof. Trouble that may pass, such as
        a busy ledger or a lost executor, ends it only where nobody could repeat the step."""
        try:
            yield
        except OWN_FAULTS as error:
            told = BuildFailed(build.view, " ".join(str(error).split())[:500])
            self._fail(build, str(told))
            raise told from error
        except BaseException as error:
            if passing:
                self._fail(build, str(error) or type(error).__name__)
            raise

    def _fail(self, build: Build, message: str) -> None:
        if builds.build(self._ledger, build.id).state not in UNFINISHED:
            return  # refused, say: it has its message
        try:
            builds.fail(self._ledger, build.id, build.token, message, self._now())
        except StaleToken:
            return  # given up by whoever has the lease by now


def _must_be(build: Build, states: Sequence[str]) -> None:
    if build.state not in states:
        raise BuildNotReady(build.id, build.view, " or ".join(states), build.state)


def made(job: Job, make: Make) -> list[DataFile]:
    """The files of a job, of each bucket once; a view of which there is no row has files too."""
    files = make(job)
    if not files:
        files = list(stages.merge(job, (), whole=[0]))
    _must_be_whole(job, files)
    return files


def _must_be_whole(job: Job, files: Sequence[DataFile]) -> None:
    """A bucket that two tasks merged would hold groups twice."""
    seen: dict[tuple[str, str], int] = {}
    for each in files:
        of = each.table or each.kind, each.file.path.rpartition("/")[2].partition("-")[0]
        seen[of] = seen.get(of, 0) + 1
    tables = {each.name for each in job.view.tables}
    found = {each.table for each in files if each.kind == BATCH}
    twice = sorted(f"bucket {bucket} of {table}" for (table, bucket), n in seen.items() if n > 1)
    if twice or found != tables:
        lacking = ", ".join(sorted(tables - found))
        told = f"{twice[0]} twice" if twice else f"no file of {lacking}"
        raise BuildFailed(job.view.name, told)
