"""The data root: durable before visible, whatever breaks in between (invariant 5)."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import DamagedFile, FileTaken, PathOutsideRoot
from schemas.storage import DataRoot, unfinished
from schemas.stored_file import StoredFile

DATA = bytes(range(256)) * 40


@pytest.fixture
def root(state: Path) -> DataRoot:
    return DataRoot(state)


def test_what_is_put_can_be_got(root: DataRoot, state: Path) -> None:
    file = root.put("segments/flights", "1-0-1-a.zip", DATA)

    assert root.get(file) == DATA
    assert file == StoredFile.of("segments/flights/1-0-1-a.zip", DATA)
    assert [p.name for p in (state / "segments/flights").iterdir()] == ["1-0-1-a.zip"]


def test_a_root_travels_as_its_path(root: DataRoot) -> None:
    file = root.put("segments", "a", DATA)
    assert pickle.loads(pickle.dumps(root)).get(file) == DATA


def test_5a_fsync_file_then_name_then_folders(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a power loss may take is taken before anybody was told of the file."""
    seen: list[str] = []
    fsync, link, folders = os.fsync, os.link, ["segments/flights", "segments", "."]

    def recorded_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        names = [name for name in folders if os.path.samestat(status, (state / name).stat())]
        seen.append(names[0] if names else "content")
        fsync(descriptor)

    def recorded_link(source: Path, target: Path) -> None:
        seen.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "link", recorded_link)
    root = DataRoot(state)

    root.put("segments/flights", "a", DATA)
    first = seen.copy()
    seen.clear()
    root.put("segments/flights", "b", DATA)

    assert first == ["segments", ".", "content", "name", "segments/flights"]
    assert seen == ["content", "name", "segments/flights"]


def test_8_a_file_is_never_overwritten(root: DataRoot) -> None:
    file = root.put("references", "a", DATA)

    with pytest.raises(FileTaken, match="references/a"):
        root.put("references", "a", b"other")

    assert root.get(file) == DATA
    assert root.put("references", "a", DATA) == file


def test_5b_damage_is_an_error_that_names_the_file(root: DataRoot) -> None:
    file, draw = root.put("segments", "a", DATA), random.Random(20260101)
    place = root.local(file.path)
    for _ in range(50):
        at, bit = draw.randrange(len(DATA)), 1 << draw.randrange(8)
        place.write_bytes(DATA[:at] + bytes([DATA[at] ^ bit]) + DATA[at + 1 :])
        with pytest.raises(DamagedFile, match="'segments/a'"):
            root.get(file)


@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA + b"x", None])
def test_5b_a_cut_or_missing_file_is_an_error_that_names_it(
    root: DataRoot, content: bytes | None
) -> None:
    file = root.put("segments", "a", DATA)
    place = root.local(file.path)
    place.unlink() if content is None else place.write_bytes(content)

    with pytest.raises(DamagedFile) as caught:
        root.get(file)

    assert caught.value.path == "segments/a"
    assert str(len(DATA)) in caught.value.expected


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a\0b"])
def test_paths_stay_inside_the_root(root: DataRoot, path: str) -> None:
    with pytest.raises(PathOutsideRoot):
        root.local(path)


def test_5a_a_failed_fsync_is_not_a_written_file(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.put("segments", "before", DATA)

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output error"):
            root.put("segments", "a", DATA)

    assert [p.name for p in root.local("segments").iterdir()] == ["before"]
    assert root.get(root.put("segments", "b", DATA)) == DATA


FULL = """
import resource, sys
from schemas.storage import DataRoot
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    DataRoot(sys.argv[1]).put("segments", "a", bytes(10_000))
except OSError as error:
    sys.exit(error.errno)
"""


def test_5a_a_write_that_fails_half_way_leaves_nothing(root: DataRoot, state: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(state)], check=False)

    assert done.returncode == errno.EFBIG
    assert list(root.local("segments").iterdir()) == []


KILLED = """
import os, signal, sys
from schemas.storage import DataRoot
left = int(sys.argv[2])
def hook(name, arguments):
    global left
    writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    if writes or name in ("os.mkdir", "os.link", "os.remove", "os.rename"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
DataRoot(sys.argv[1]).put("segments/flights", "a", bytes(range(256)))
"""


def test_5a_killed_at_any_operation_a_visible_file_is_whole(tmp_path: Path) -> None:
    died = 0
    for operation in range(1, 50):
        folder = tmp_path / str(operation)
        command = [sys.executable, "-c", KILLED, str(folder), str(operation)]
        code = subprocess.run(command, check=False).returncode
        root = DataRoot(folder)
        place = root.local("segments/flights")
        names = [p.name for p in place.iterdir()] if place.is_dir() else []
        visible = [name for name in names if unfinished(name) is None]

        assert visible in ([], ["a"])
        assert {unfinished(name) for name in names} <= {None, "a"}
        if visible:
            assert root.get(StoredFile.of("segments/flights/a", bytes(range(256))))
        assert root.get(root.put("segments/flights", "a", bytes(range(256))))
        if code == 0:
            break
        died += 1
    assert code == 0
    assert died >= 4  # folders, content, link, hidden name


def writer(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def test_5_a_file_that_is_written_in_place_is_measured_from_the_disk(root: DataRoot) -> None:
    file = root.write("runs/flights", "a.parquet", writer(DATA))
    assert file == StoredFile.of("runs/flights/a.parquet", DATA)
    assert root.check(file).read_bytes() == DATA
    with pytest.raises(FileTaken):
        root.write("runs/flights", "a.parquet", writer(b"other"))
    assert root.check(file).read_bytes() == DATA


def test_5_a_writer_that_fails_leaves_nothing(root: DataRoot, state: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(DATA[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        root.write("runs/flights", "a.parquet", full)
    assert list((state / "runs/flights").iterdir()) == []


@pytest.mark.parametrize("at", [0, len(DATA) // 2, len(DATA) - 1])
def test_5_a_flipped_bit_is_found_by_a_check(root: DataRoot, state: Path, at: int) -> None:
    file = root.put("master", "a", DATA)
    changed = bytearray(DATA)
    changed[at] ^= 1
    (state / file.path).write_bytes(changed)
    with pytest.raises(DamagedFile, match="master/a"):
        root.check(file)
    root.remove(file.path)
    root.remove(file.path)
    with pytest.raises(DamagedFile, match="no file"):
        root.check(file)
