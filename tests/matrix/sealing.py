"""F22 to F25: sealing and files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from schemas.errors import DamagedFile
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from tests.matrix.letters import heals, holds, named, right, stray
from tests.matrix.micro_batch import KILLS
from tests.matrix.registry import played
from tests.matrix.stage import Stage
from tests.matrix.world import World, at, event, loud, says

SEALING = "tests/engine/test_sealing.py::"


@played(
    "F22",
    "Sealing dies before or after its files are written, and after its commit.",
    SEALING + "test_kills_at_every_moment_lose_and_double_nothing",
    KILLS,
)
def sealing_dies(stage: Stage) -> None:
    world = stage.world()
    for number in range(4):
        world.some(10 * number)
        world.stream()
    left = False
    for failpoint in (
        "seal.before_files=kill",
        "seal.after_files=kill@3",
        "seal.after_commit=kill",
    ):
        stage.kill(world, failpoint, "seal")
        left = left or bool(stray(world))
        world.served = None
        holds(world)
    assert left
    world.seal(seal_epochs=1, merge_fanout=2)
    heals(world)
    assert not stray(world)


@played(
    "F23",
    "Sealing commits while a reader reads the segments that it replaces.",
    "tests/api/test_layers.py::test_segments_that_vanish_under_a_round_lead_to_a_snapshot",
    "tests/api/test_layers.py::test_runs_that_vanish_under_a_load_lead_to_another_snapshot",
)
def sealing_under_a_reader(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    world.stream()
    world.serve()
    for moment in ("serve.noticed", "serve.loaded"):
        world.some(100 * (1 + len(world.commits)), 20)
        world.stream(max_events_per_epoch=6)
        with at(moment, world.seal):
            holds(world)
        heals(world)
    # between the ledger's news and the reading of what they name
    world.some(4000)
    world.stream()
    with stage.patch.context() as patch:
        get = DataRoot.get

        def sealed_away(root: DataRoot, file: StoredFile) -> bytes:
            patch.undo()
            world.seal()
            return get(root, file)

        patch.setattr(DataRoot, "get", sealed_away)
        world.look()
    holds(world)
    assert world.look().coverage("by_key")["epoch"] == max(world.commits)
    # what was replaced stays for a while, for whoever is still at the state before
    world.some(5000)
    world.stream()
    segments = {path for path, kind, *_ in named(world) if kind == "segment"}
    assert segments
    with world.driver(keep_removed=timedelta(minutes=10)) as driver:
        driver.seal()
        assert all((world.state / path).is_file() for path in segments)
        world.clock += timedelta(minutes=11)
        driver.seal()
        assert not any((world.state / path).exists() for path in segments)
    heals(world)


@played(
    "F24",
    "Files that are nobody's lie in the data folders.",
    "tests/engine/test_streaming_parts.py::test_only_older_unnamed_segments_are_orphans",
    "tests/engine/test_damage.py::test_stray_files_are_mentioned_and_stay",
)
def stray_files(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    world.stream()
    world.seal()
    world.build("by_key")
    world.some(20)
    world.stream()
    put: set[Path] = set()
    for path, *_ in named(world):
        file = world.state / path
        data = file.read_bytes()
        beside = {
            file.with_name("half" + file.suffix): data[: len(data) // 2],
            file.with_name("empty" + file.suffix): b"",
            file.with_name(f".{file.name}.crc"): b"crc\0",
            file.with_name(f"{file.name}~"): data,
            file.with_name(f"copy-of-{file.name}"): data,
            file.parent / "_temporary" / "0" / file.name: data,
        }
        for name, content in beside.items():
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(content)
        put |= set(beside)
    world.serve()
    holds(world)
    world.some(40)
    world.stream()
    world.seal()
    world.build("by_key")
    heals(world)
    ours = {file for file in put if not file.is_relative_to(world.state / "batch")}
    kept = {file for file in ours if not file.is_relative_to(world.state / "views")}
    assert kept
    assert all(file.exists() for file in kept)


@played(
    "F25",
    "A bit is flipped in a file, or the file is cut or gone.",
    "tests/faults/test_storage.py::test_5_a_flipped_bit_is_found_by_a_check",
    "tests/engine/test_segment.py::test_5b_a_flipped_bit_is_never_another_value",
    "tests/api/test_layers.py::test_damage_in_a_batch_file_is_never_a_number",
    "tests/engine/test_batch_proof.py::test_a_damaged_file_is_named_and_nothing_is_published",
)
def a_bit_is_flipped(stage: Stage) -> None:
    world = stage.world()
    for number in range(3):
        world.some(20 * number, 20)
        world.stream()
        if number < 2:
            world.seal()
        if not number:
            world.build("by_key")
    heals(world)
    by_kind = {kind: path for path, kind, *_ in named(world) if kind != "run" or "/core/" in path}
    for kind in ("segment", "run", "batch"):
        for damaged in damages(world, by_kind[kind]):
            _is_never_a_number(world, by_kind[kind], damaged)
        world.serve()
        holds(world)
    # what serving does not read: a build and the next epoch do
    for damaged in damages(world, by_kind["master"]):
        with damaged, loud(DamagedFile, by_kind["master"]):
            world.build("by_hour")
    for damaged in damages(world, by_kind["ids"]):
        with damaged, world.driver() as driver:
            world.send(event(0))
            driver.run()
            says(driver.trouble(), by_kind["ids"])
    heals(world)


class Damage:
    """A file as it is not, while this lasts."""

    def __init__(self, file: Path, data: bytes | None) -> None:
        self.file, self.data, self.whole = file, data, file.read_bytes()

    def __enter__(self) -> None:
        self.file.unlink()
        if self.data is not None:
            self.file.write_bytes(self.data)

    def __exit__(self, *_: object) -> None:
        self.file.unlink(missing_ok=True)
        self.file.write_bytes(self.whole)


def damages(world: World, path: str, flips: int = 3) -> list[Damage]:
    """One bit at offsets over the whole file, the file cut, the file gone."""
    file = world.state / path
    data = file.read_bytes()
    changed: list[bytes | None] = [data[: len(data) // 2], None]
    for at_byte in range(len(data) // (2 * flips), len(data), len(data) // flips):
        flipped = bytearray(data)
        flipped[at_byte] ^= 1 << (at_byte % 8)
        changed.append(bytes(flipped))
    return [Damage(file, each) for each in changed]


def _is_never_a_number(world: World, path: str, damaged: Damage) -> None:
    with damaged:
        served = world.serving()
        served.step()
        served.catch_up()
        told = [served.coverage(view)["degraded"] for view in world.views]
        assert any(path in str(each) for each in told), (path, told)
        world.served, seen = served, dict(world.seen)
        world.seen.clear()  # this server has not been anywhere yet
        right(world)
        world.seen = seen
