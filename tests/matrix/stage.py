"""Where a row is played: a folder, processes that may die, and what may be patched."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.matrix.process import Processes
from tests.matrix.world import STREAM, VIEWS, World


@dataclass
class Stage:
    """Worlds made here are closed by `close`. `without` names the guard that is taken out, for the
    processes of the row too."""

    folder: Path
    processes: Processes
    patch: pytest.MonkeyPatch
    without: str | None = None
    worlds: list[World] = field(default_factory=list)

    def world(
        self,
        *,
        stream: str = STREAM,
        views: Mapping[str, str] = VIEWS,
        partitions: int = 2,
        name: str = "",
    ) -> World:
        folder = self.folder / (name or f"world-{len(self.worlds)}")
        folder.mkdir(exist_ok=True)
        made = World(folder, stream=stream, views=views, partitions=partitions)
        self.worlds.append(made)
        return made

    def run(self, world: World, *steps: str, zone: str = "") -> None:
        """A process of its own that comes to its end."""
        ended = self.processes.run(world.folder, steps, without=self.without, zone=zone)
        assert ended.code == 0, ended.said
        world.note()

    def kill(self, world: World, failpoint: str, *steps: str) -> None:
        """A process of its own that is killed at a failpoint."""
        ended = self.processes.run(world.folder, steps, failpoints=failpoint, without=self.without)
        assert ended.code == -signal.SIGKILL, (failpoint, ended.code, ended.said)
        world.note()

    def close(self) -> None:
        for world in self.worlds:
            world.close()
