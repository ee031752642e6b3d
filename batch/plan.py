"""What a build is of: the view's newest cut, the files to read, and the tasks to read them in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from batch import stages
from batch.settings import Settings
from batch.stages import Job
from schemas.bound import Bound
from schemas.compile import CompiledStream, CompiledView
from schemas.engine import hash_probe
from schemas.ledger import builds
from schemas.ledger.builds import Build, BuildInputs
from schemas.ledger.connect import Ledger
from schemas.ledger.files import BATCH, FINISHED, named
from schemas.ledger.leases import Lease
from schemas.storage import DataRoot


def begin(
    ledger: Ledger,
    root: DataRoot,
    settings: Settings,
    view: str,
    lease: Lease,
    now: datetime,
    *,
    full: bool,
    until: int | None,
    bound: Bound | None = None,
) -> Build:
    """Begin a build; what earlier ones left behind goes."""
    full = full or full_is_due(ledger, view, settings.full_every)
    build = builds.begin(ledger, view, lease, now, full=full, until=until, bound=bound)
    remove_leftovers(ledger, root, build)
    return build


def full_is_due(ledger: Ledger, view: str, every: int) -> bool:
    """Whether none of the last publications came from the whole master."""
    if every < 1:
        return False
    recent = builds.publications(ledger, view)[: every - 1]
    made = [builds.build(ledger, each.id) for each in recent]
    return len(made) == every - 1 and not any(each.full or each.base is None for each in made)


def job(
    root: DataRoot,
    settings: Settings,
    stream: CompiledStream,
    view: CompiledView,
    build: Build,
    inputs: BuildInputs,
) -> Job:
    """The work of a build's tasks."""
    parts = stages.plan(inputs.master, inputs.base, settings.task_bytes)
    return Job(
        root=root,
        stream=stream,
        view=view,
        build=build.id,
        first=1 if build.full else build.base_cut + 1,
        cut=build.cut,
        ranges=inputs.ranges,
        parts=parts,
        buckets=stages.buckets(view, parts, settings.bucket_bytes, settings.most_buckets),
        memory=settings.memory,
        piece_rows=settings.piece_rows,
        probe=hash_probe(),
        bounds=inputs.bounds,
        declared=inputs.declared,
    )


def remove_leftovers(ledger: Ledger, root: DataRoot, build: Build) -> list[str]:
    """Remove what builds of this view wrote and the ledger does not name, and what an earlier try
    of this one did: those are over, since `build` holds the lease. Gives the paths."""
    keep = named(ledger, BATCH, build.stream) | named(ledger, FINISHED, build.stream)
    top = root.local("views").parent
    gone = []
    for folder in _folders(top, build.view):
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            path = file.relative_to(top).as_posix()
            if path not in keep:
                root.remove(path)
                gone.append(path)
        remove_empty(folder)
    return gone


def remove_empty(folder: Path) -> None:
    """Remove a folder of a build, and those in it, where no file is left."""
    inside = [each for each in folder.rglob("*") if each.is_dir()]
    for each in [*sorted(inside, key=lambda path: -len(path.parts)), folder]:
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()


def _folders(top: Path, view: str) -> Iterator[Path]:
    """The folders of the builds of a view."""
    views, batch = top / "views" / view, top / "batch" / view
    for folder in [*views.glob("*"), *batch.glob("*/*")]:
        if folder.is_dir() and folder.name.isdigit():
            yield folder
