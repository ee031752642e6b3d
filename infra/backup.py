"""A copy of a state while it is written to, and a state made of such a copy.

    backup    ledger, as of one transaction -> the files that it names, each checked -> backup.json
    restore   the copy's files, each checked -> the ledger, last: without it there is no state

What a file was named for may be sealed or dropped while it is copied. It stays on the disk for a
while (`keep_removed`); where that was too short, the copy is brought up to a newer ledger.

Kafka's records are not part of it. A restored state goes on from its position in the same topics of
the same Kafka; a broker that lost them has other topics, and streams over these are refused.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from batch import publish
from infra import files
from schemas.errors import BackupRefused, DamagedFile
from schemas.ledger import epochs, versions
from schemas.ledger.connect import NAME, keep_wal, open_ledger
from schemas.ledger.copies import back_up, copy_ledger, disown, needed_files
from schemas.storage import DataRoot, fsync_folder
from schemas.stored_file import StoredFile

FILE = "backup.json"
FORMAT = 1
SNAPSHOTS = 5  # how often files may go while they are copied


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself."""

    taken: str  # ISO 8601, UTC
    epochs: dict[str, int]  # stream -> its last epoch
    files: int
    bytes: int
    format: int = FORMAT


def take(state: Path, to: Path, now: datetime, say: Callable[[str], None]) -> Backup:
    """Copy a state into an empty folder, which may be missing.

    Raises BackupRefused where the folder holds something, LedgerMissing where there is nothing to
    copy, and DamagedFile for a file that is not what the ledger says.
    """
    open_ledger(state).close()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        message = f"backup folder must be empty or missing; got {to}, which holds something"
        raise BackupRefused(message)
    to.mkdir(parents=True, exist_ok=True)
    source = DataRoot(state)
    copied: dict[str, StoredFile] = {}
    for attempt in range(1, SNAPSHOTS + 1):
        (to / NAME).unlink(missing_ok=True)
        copy_ledger(state, to)
        wanted, streams = _contents(state, to)
        gone = [each for each in wanted if each.path not in copied]
        left = _copy(source, to, gone, copied)
        if left is None:
            break
        if attempt == SNAPSHOTS or left.path in {each.path for each in _contents(state, state)[0]}:
            raise DamagedFile(left.path, str(left), "no file")
        say(f"{left.path} was replaced meanwhile; the copy goes on from a newer ledger")
    kept = {each.path for each in wanted}
    for path in set(copied) - kept:
        (to / path).unlink()
    told = Backup(now.isoformat(), streams, len(wanted), sum(each.bytes for each in wanted))
    files.replace(to / FILE, json.dumps(asdict(told), indent=1) + "\n")
    fsync_folder(to)
    return told


def restore(backup: Path, state: Path) -> Backup:
    """Make a state of a backup, whole or not at all.

    Raises BackupRefused where the folder is no backup or the state has a ledger, and DamagedFile
    for a file that is not what the backup's ledger says.
    """
    told = _read(backup)
    if (state / NAME).exists():
        message = f"state to restore into must have no ledger; got {state}, which has one"
        raise BackupRefused(message)
    state.mkdir(parents=True, exist_ok=True)
    wanted, _ = _contents(backup, backup)
    left = _copy(DataRoot(backup), state, wanted, {})
    if left is not None:
        raise DamagedFile(left.path, str(left), "no file")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as aside:
        copy_ledger(backup, Path(aside))
        keep_wal(Path(aside) / NAME)
        with open_ledger(Path(aside)) as ledger:
            disown(ledger)
            for view in versions.views(ledger):
                publish.write_current(ledger, DataRoot(state), view.name)
        (Path(aside) / NAME).rename(state / NAME)
    fsync_folder(state)
    back_up(state)  # what is on record in no file, such as what retention removed, is in it
    return told


def _contents(state: Path, copy: Path) -> tuple[list[StoredFile], dict[str, int]]:
    """The files that the ledger in `copy` names, and how far its streams are."""
    with open_ledger(copy) as ledger:
        counted, references = needed_files(ledger)
        streams = {
            each.name: epochs.progress(ledger, each.name).epoch for each in versions.streams(ledger)
        }
    root = DataRoot(state)
    for path in references:  # they are called by their hash, and never go
        sha256 = path.rpartition("/")[2]
        try:
            counted.append(StoredFile(path, sha256, root.local(path).stat().st_size))
        except FileNotFoundError as error:
            raise DamagedFile(path, f"a file with sha256 {sha256}", "no file") from error
    return counted, streams


def _copy(
    source: DataRoot, to: Path, wanted: Iterable[StoredFile], copied: dict[str, StoredFile]
) -> StoredFile | None:
    """Copy files, each checked and durable; the first one that is not there any more, if any."""
    target = DataRoot(to)
    for each in wanted:
        folder, _, name = each.path.rpartition("/")
        path = source.local(each.path)

        def write(hidden: Path, path: Path = path) -> None:
            shutil.copyfile(path, hidden)

        try:
            found = target.write(folder, name, write)
        except FileNotFoundError:
            return each
        if found != each:
            target.remove(each.path)
            raise DamagedFile(each.path, str(each), str(found))
        copied[each.path] = each
    return None


def _read(backup: Path) -> Backup:
    try:
        found = json.loads((backup / FILE).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            message = f"backup must be of format {FORMAT}; got {found['format']}: {backup}"
            raise BackupRefused(message)
        return Backup(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"folder must be a backup, with a whole {FILE}; got {backup}: {error}"
        raise BackupRefused(message) from error
