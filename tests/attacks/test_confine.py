"""Each layer that a worker puts on, alone and together: without it the attack works."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import NotConfined
from serving.worker import confine
from serving.worker.confine import Limits
from tests.attacks.confined import CANARY, PROBES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are limits alone"),
]

SECRET = "s3cr3t-5f1c"
# some layers need that privileges were given up
LAYERS = {
    "environment": ["environment"],
    "descriptors": ["descriptors"],
    "limits": ["limits"],
    "network": ["network"],
    "user": ["user"],
    "files": ["user", "files"],
    "hidden": ["user", "hidden"],
    "calls": ["user", "calls"],
}
# what it is without any layer; then, by layer, what comes of it where that one alone is on
STOPPED: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "write": ("done", {"files": "EACCES", "calls": "EPERM", "limits": "EFBIG"}),
    "truncate_by_opening": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "truncate_by_reading": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "truncate": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "create": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "unlink": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "rename": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "link": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "make_folder": ("done", {"files": "EACCES", "calls": "EPERM"}),
    "change_mode": ("done", {"calls": "EPERM"}),
    "change_times": ("done", {"calls": "EPERM"}),
    "append": ("done", {"files": "EACCES", "calls": "EPERM", "limits": "EFBIG"}),
    "read_outside": (CANARY, {"files": "EACCES"}),
    "list_outside": (True, {"files": "EACCES"}),
    "read_inherited": (CANARY, {"descriptors": ""}),
    "connect": ("done", {"network": "ENETUNREACH", "calls": "EPERM", "files": "EACCES"}),
    "send_datagram": ("done", {"network": "ENETUNREACH", "calls": "EPERM"}),
    "allocate": ("done", {"limits": "ENOMEM"}),
    "allocate_in_engine": (None, {"limits": "OutOfMemoryException"}),
    "open_many": ("done", {"limits": "EMFILE"}),
    "environment": (None, {"environment": ""}),
    "execute": ("ended with 0", {"calls": "EPERM", "files": "EACCES"}),
    "fork": ("done", {"calls": "EPERM"}),
    "signal_parent": ("done", {"calls": "EPERM", "files": "EPERM"}),
    "privileges": (None, {"user": ["", "", "1"]}),
    "look_into": ("done", {"hidden": "EACCES"}),
    "core": (None, {"limits": 0}),
    "engine_copy": ("done", {"files": "IOException", "calls": "IOException"}),
    "engine_overwrite": ("done", {"files": "IOException", "calls": "IOException"}),
    "engine_attach": ("done", {"files": "IOException", "calls": "IOException"}),
    "engine_export": ("done", {"files": "IOException", "calls": "IOException"}),
    "engine_read_outside": (CANARY, {"files": "IOException"}),
    "engine_read_passwords": ("1", {"files": "IOException"}),
}
GOES_ON: Mapping[str, Any] = {
    "talk": "answer",
    "start_thread": "done",
    "signal_itself": "done",
    "query_tables": [[0, 714264285]],
    "query_files": [[0, 714264285]],
    "query_chance": True,
}
# with all layers another one may be met first; these cannot be tried any more then
SAME = {"EACCES", "EPERM", "EMFILE", "ENOMEM", "EFBIG", "ENETUNREACH"}
UNTRIED = {"environment", "privileges", "look_into"}


class Children:
    def __init__(self, folder: Path, port: int) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.confined", str(folder), str(port)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "SECRET": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, layers: list[str] | None, probe: str) -> tuple[Any, bool]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"layers": layers, "probe": probe}) + "\n")
        self.process.stdin.flush()
        found, unchanged = json.loads(self.process.stdout.readline())
        return found, unchanged


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        children = Children(tmp_path_factory.mktemp("children"), listener.getsockname()[1])
        yield children
        children.process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("probe", "layer"), [(probe, layer) for probe, (_, by) in STOPPED.items() for layer in by]
)
def test_a_layer_alone(children: Children, probe: str, layer: str) -> None:
    assert children.ask(LAYERS[layer], probe) == (STOPPED[probe][1][layer], True)


@pytest.mark.parametrize("probe", [probe for probe, (bare, _) in STOPPED.items() if bare])
def test_without_layers_it_works(children: Children, probe: str) -> None:
    assert children.ask([], probe)[0] == STOPPED[probe][0]


def test_without_layers_secrets_and_privileges_are_seen(children: Children) -> None:
    assert children.ask([], "environment")[0].count(SECRET) == 3
    assert children.ask([], "privileges")[0][2] == "0"


def test_all_layers_together(children: Children) -> None:
    assert children.ask(None, "confinement") == ({"active": list(LAYERS), "missing": {}}, True)
    for probe in STOPPED.keys() - UNTRIED:
        found, unchanged = children.ask(None, probe)
        expected = set(map(str, STOPPED[probe][1].values()))
        assert unchanged, probe
        assert str(found) in expected or (found in SAME and expected & SAME), (probe, found)
    for probe, expected_value in GOES_ON.items():
        assert children.ask(None, probe) == (expected_value, True), probe


def test_a_confined_worker_works(children: Children) -> None:
    """In every form it answers as one that is not confined, and it takes changes."""
    (told, rows, changes), _ = children.ask(None, "work")
    (expected, _, _), _ = children.ask([], "work")
    assert told == expected
    assert not any("denied" in answer or "permitted" in answer for answer in told)
    assert (rows, changes > 1) == ([[1, None], [2, 6]], True)


def test_every_probe_is_asked() -> None:
    assert PROBES.keys() == STOPPED.keys() | GOES_ON.keys() | {"read_inside", "work"}


def test_what_must_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Limits that are not there, or a folder that is not there; nothing is done to this process."""

    def refuse(limits: Limits) -> None:  # noqa: ARG001
        message = "not permitted"
        raise ValueError(message)

    monkeypatch.setattr(confine, "_limit", refuse)
    with pytest.raises(NotConfined, match="not permitted"):
        confine.confine(Limits(1), [], layers=["limits"])
    with pytest.raises(NotConfined, match="there is no folder"):
        confine.confine(Limits(1), [tmp_path / "none"], layers=[])


def test_what_a_platform_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "LINUX", False)
    found = confine.confine(Limits(1), [], layers=["network", "hidden"])
    assert found.active == ()
    assert {found.missing[each] for each in ("network", "hidden")} == {"Linux alone has it"}
