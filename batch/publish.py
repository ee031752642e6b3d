"""A proven build -> the publication that is served, and `current.json`, which names it for those
who read Parquet and not the ledger.

    views/<view>/current.json        replaced whole, after the ledger has the publication
    views/<view>/<publication>/      finished rows; stay until the publication is dropped
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batch.plan import remove_empty
from schemas.engine import connect
from schemas.failpoints import failpoint
from schemas.ledger import builds, files, versions
from schemas.ledger.builds import Build, PublicationRow
from schemas.ledger.connect import Ledger
from schemas.ledger.copies import back_up
from schemas.ledger.files import FINISHED
from schemas.storage import DataRoot, fsync_folder

CURRENT = "current.json"


def publish(
    ledger: Ledger, root: DataRoot, build: Build, now: datetime, rollback_window: timedelta
) -> PublicationRow:
    """Make a proven build the one that is served, and keep a copy of the ledger that has it.
    Publishing again what is published does no more than to see that `current.json` names what is
    served."""
    published = builds.publish(ledger, build.id, build.token, now, rollback_window)
    failpoint("rebuild.after_publish")
    write_current(ledger, root, build.view)
    back_up(root.local("views").parent)
    return published


def write_current(ledger: Ledger, root: DataRoot, view: str) -> bool:
    """Let `current.json` name the served publication; whether it had to be written."""
    file = root.local(f"views/{view}/{CURRENT}")
    written = False
    while True:
        served = _served(ledger, view)
        if served is None or served.id == named_by(file):
            return written
        _replace(file, json.dumps(_current(ledger, root, served), indent=1) + "\n")
        written = True  # and look again: a rollback may have come between


def named_by(file: Path) -> int | None:
    """The publication that a `current.json` names."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return int(found["publication"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def remove_old(ledger: Ledger, root: DataRoot, stream: str, before: datetime) -> int:
    """Remove files that stopped counting before an instant; how many."""
    gone = files.removable(ledger, stream, before)
    top = root.local("views").parent
    for path in gone:
        root.remove(path)
        if path.startswith(("batch/", "views/", "base/")):
            folder = (top / path).parent
            with contextlib.suppress(FileNotFoundError):
                remove_empty(folder if path.startswith("views/") else folder.parent)
    failpoint("clean.before_forget")
    files.forget(ledger, gone)
    return len(gone)


def _served(ledger: Ledger, view: str) -> PublicationRow | None:
    chosen = {row.name: row.publication for row in versions.views(ledger)}.get(view)
    if chosen is None:
        return None
    return next(each for each in builds.publications(ledger, view) if each.id == chosen)


def _current(ledger: Ledger, root: DataRoot, served: PublicationRow) -> dict[str, Any]:
    listed = [each for each in builds.build_files(ledger, served.id) if each.kind == FINISHED]
    position = builds.position_at(ledger, served.stream, served.cut)
    engine = connect()
    source = engine.files([root.check(listed[0].file)])  # all have the same columns
    described = engine.con.execute(f"DESCRIBE FROM {source}").fetchall()
    engine.con.close()
    folder = f"views/{served.view}/"
    return {
        "view": served.view,
        "version": served.version,
        "publication": served.id,
        "cut": served.cut,
        "epoch": served.cut,  # of these rows: they hold what batch owns and nothing after it
        "position": position.json(),
        "published": served.published.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "columns": [{"name": str(row[0]), "type": str(row[1])} for row in described],
        "rows": sum(each.rows for each in listed),
        "files": [
            {
                "path": each.file.path.removeprefix(folder),
                "rows": each.rows,
                "sha256": each.file.sha256,
                "bytes": each.file.bytes,
            }
            for each in listed
        ],
    }


def _replace(file: Path, text: str) -> None:
    """Put a file in another's place, whole and durable."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("x", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(file.parent)
