"""`python -m batch.run`: rebuild views, prove what was built, publish it.

Without --step, everything for each view, one after the other, in one process with one Spark
session. With it, one step of one build: `plan` prints the build's number, which the others take.
A step that did not come to its end can be repeated. `release` gives up a build that nobody will
go on with, so that the next one can begin at once; of a build that has ended it changes nothing.

Exit codes: 0 done, or nothing to build; 1 refused or failed; 2 bad use; 3 not ours to do, since
another build of the view, or another process of this one, is at work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batch import proof, publish, scratch
from batch.build import Builder, Done
from batch.retention import Retainer
from batch.settings import Settings
from batch.stages import CORE, Job
from batch.stopping import Stopping
from schemas import ages
from schemas.ages import Ages
from schemas.errors import (
    BadUse,
    EverviewError,
    LeaseHeld,
    NothingToBuild,
    RetentionNotNext,
    VersionOfAnotherRelease,
)
from schemas.ledger import builds, versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.files import DataFile
from schemas.storage import DataRoot

DONE, NO, BAD_USE, HELD = 0, 1, 2, 3
STEPS = ("all", "plan", "rebuild", "prove", "publish", "release")
NEEDS_BUILD = STEPS[2:]
# how the lines on stderr begin that are about retention
RETENTION, NOT_RETAINED = "retention: ", "NOT RETAINED: "


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: see above."""
    found = parse(argv)
    stopping = Stopping()
    try:
        with open_ledger(found.settings.state) as ledger, ExitStack() as stack:
            stack.enter_context(stopping.listening())
            stack.enter_context(scratch.own_folder(found.settings))
            threads = os.cpu_count() or 1
            spark = _spark(found.settings, stack, stopping)
            builder = Builder(found.settings, ledger, spark, _now, threads)
            retainer = Retainer(found.settings, ledger, _now, threads)
            return _Run(ledger, builder, retainer, found.settings, found.json).step(found)
    except EverviewError as error:
        sys.stderr.write(f"{error}\n")
        return _code(error)


def _now() -> datetime:
    return datetime.now(UTC)


def _code(error: EverviewError) -> int:
    if isinstance(error, BadUse):
        return BAD_USE
    return HELD if isinstance(error, LeaseHeld) else NO


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m batch.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("views", nargs="*", metavar="VIEW")
    add("--state", type=Path, required=True, help="the state folder, with its ledger")
    add("--step", choices=STEPS, default="all")
    add("--build", type=int, metavar="ID", help="the build that a later step is of")
    add("--full", action="store_true", help="from the whole master, not only what is new")
    add("--until", type=_positive, metavar="EPOCH", help="cut at a sealed epoch up to this one")
    add("--master", help="Spark's master; default: spark-submit's, else local[2,4]")
    add("--driver-memory", default=Settings.driver_memory, help="the JVM's heap, such as 1g")
    add("--memory", default=Settings.memory, help="DuckDB's, in each task and in the proof")
    seconds = Settings.rollback_window.total_seconds()
    add("--rollback-window", type=float, default=seconds, metavar="SECONDS")
    add("--proof-rows", type=int, default=Settings.proof_rows, metavar="N")
    add("--full-every", type=int, default=0, metavar="N", help="every n-th build is a full one")
    add("--task-bytes", type=_positive, default=Settings.task_bytes, metavar="N")
    add("--bucket-bytes", type=_positive, default=Settings.bucket_bytes, metavar="N")
    add(ages.FLAG, action="append", default=[], metavar="SECONDS", help=ages.HELP)
    add(ages.KEEP_FLAG, action="append", default=[], metavar="AGE", help=ages.KEEP_HELP)
    add("--json", action="store_true", help="a line of JSON per view")
    found = parser.parse_args(argv)
    if found.step in NEEDS_BUILD and (found.build is None or found.views):
        parser.error(f"--step {found.step} must have --build ID and no VIEW")
    if found.step not in NEEDS_BUILD and (found.build is not None or not found.views):
        parser.error(f"--step {found.step} must have a VIEW and no --build")
    if found.step == "plan" and len(found.views) > 1:
        parser.error("--step plan must have one VIEW")
    try:
        found.settings = Settings(
            state=found.state.absolute(),
            master=found.master,
            driver_memory=found.driver_memory,
            memory=found.memory,
            rollback_window=timedelta(seconds=found.rollback_window),
            proof_rows=found.proof_rows,
            full_every=found.full_every,
            task_bytes=found.task_bytes,
            bucket_bytes=found.bucket_bytes,
            retain=Ages.parse(found.retain),
            keep=ages.parse_keep(found.keep),
        )
    except (BadUse, ValueError) as error:
        parser.error(str(error))
    return found


class _Run:
    """What was asked for, and how it is told."""

    def __init__(
        self,
        ledger: Ledger,
        builder: Builder,
        retainer: Retainer,
        settings: Settings,
        json_: bool,
    ) -> None:
        self._ledger, self._builder, self._retainer = ledger, builder, retainer
        self._root, self._json = DataRoot(settings.state), json_

    def step(self, found: argparse.Namespace) -> int:
        for row in versions.views(self._ledger):
            if row.publication is not None:
                try:
                    publish.write_current(self._ledger, self._root, row.name)
                except (EverviewError, OSError) as error:  # of no concern to what is asked for
                    sys.stderr.write(f"current.json of view {row.name!r} is not written: {error}\n")
        if found.step == "all":
            codes = [self._all(view, found) for view in dict.fromkeys(found.views)]
            return NO if NO in codes else max(codes)
        if found.step == "plan":
            (view,) = found.views
            try:
                build = self._builder.plan(view, full=found.full, until=found.until)
            except NothingToBuild as error:
                _say(json.dumps({"id": None, "view": view, "cut": error.cut}))
                sys.stderr.write(f"{error}\n")
                return DONE
            _say(json.dumps(asdict(build)))
        elif found.step == "rebuild":
            build = self._builder.rebuild(found.build)
            self._tell(asdict(build), f"build {build.id} of view {build.view!r} is built")
        elif found.step == "prove":
            proved = self._builder.prove(found.build)
            told = {"verdict": proved.verdict, "proof": proved.words}
            self._tell(dict(proved.evidence) | told, proved.words)
            if self._json:
                sys.stderr.write(f"{proved.words}\n")  # for whoever reads a task's log
            _repair_told(proved)
        elif found.step == "publish":
            return self._publish(found.build)
        else:
            build = self._builder.release(found.build)
            ended = {"id": build.id, "view": build.view, "state": build.state}
            self._tell(ended, f"build {build.id} of view {build.view!r} is {build.state}")
        return DONE

    def _publish(self, build: int) -> int:
        row = self._builder.publish(build)
        files = builds.build_files(self._ledger, build)
        told = {
            "view": row.view,
            "publication": row.id,
            "cut": row.cut,
            "rows": sum(each.rows for each in files if each.table == CORE),
            "verdict": "repair" if row.kind == "repair" else "equal",
        }
        self._tell(told, f"view {row.view!r} is published up to epoch {row.cut}")
        return self._retain(row.stream)

    def _all(self, view: str, found: argparse.Namespace) -> int:
        """One view; that another one fails is none of its trouble."""
        try:
            done = self._builder.all_steps(view, full=found.full, until=found.until)
        except NothingToBuild as error:
            self._tell({"view": view, "publication": None, "cut": error.cut}, str(error))
            return DONE
        except EverviewError as error:
            self._tell({"view": view, "error": str(error)}, "")
            sys.stderr.write(f"{error}\n")
            return _code(error)
        self._tell(done.json(), _line(done))
        _repair_told(done.proof)
        return self._retain(done.build.stream)

    def _retain(self, stream: str) -> int:
        """Retention of the master, where it is due. Its trouble leaves the publication as it is."""
        try:
            done = self._retainer.where_due(stream)
        except (LeaseHeld, RetentionNotNext, VersionOfAnotherRelease) as error:
            sys.stderr.write(f"{RETENTION}{error}\n")
            return DONE  # it passes, and the next publication tries again
        except EverviewError as error:
            sys.stderr.write(f"{NOT_RETAINED}{error}\n")
            return NO
        if done is not None:
            sys.stderr.write(f"{RETENTION}{done.words}\n")
        return DONE

    def _tell(self, told: dict[str, Any], text: str) -> None:
        if self._json:
            _say(json.dumps(told))
        elif text:
            _say(text)


def _line(done: Done) -> str:
    return (
        f"view {done.build.view!r} is published up to epoch {done.build.cut} as publication "
        f"{done.publication.id}: {done.rows:,} rows in {done.seconds:.1f} s; {done.proof.words}"
    )


def _repair_told(found: proof.Proof) -> None:
    """A repair is right, but something before it was not."""
    if found.verdict == "repair":
        listed = "\n  ".join(proof.line(each) for each in found.differences)
        sys.stderr.write(
            f"REPAIR: what was counted before was wrong and is corrected; it is recorded:\n"
            f"  {listed}\n"
        )


def _spark(
    settings: Settings, stack: ExitStack, stopping: Stopping
) -> Callable[[Job], list[DataFile]]:
    """Starts Spark for the first view that has something to build."""
    started: list[Any] = []

    def make(job: Job) -> list[DataFile]:
        session = importlib.import_module("batch.session")
        if not started:
            with stopping.held():
                started.append(stack.enter_context(session.session(settings)))
        rebuild = importlib.import_module("batch.rebuild")
        files: list[DataFile] = rebuild.in_spark(started[0], job)
        return files

    return make


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"must be at least 1; got {number}"
        raise argparse.ArgumentTypeError(message)
    return number


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
