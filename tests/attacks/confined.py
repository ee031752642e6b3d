"""`python -m tests.attacks.confined FOLDER PORT` forks a child per line of stdin, as a worker is:
`{"layers": [...] or null, "probe": NAME}` -> a line of JSON: what came of it or the error's name,
and whether the files are as they were.

Each probe is something that a worker that was taken over would try, or that it needs to do.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import shutil
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from serving import formats
from serving.envelope import RequestError
from serving.packing import pack, unpack
from serving.query import Query, Whole
from serving.worker.confine import Limits, confine, prepare
from serving.worker.job import Job
from serving.worker.process import READ
from serving.worker.tables import Change
from tests.api.world import START, Served, World

ALLOWANCE = 512 * 2**20
DESCRIPTORS = 64
CANARY = "canary-5f1c"
# every type in every form, what DuckDB and pyarrow do late, errors of each kind
STATEMENTS: Sequence[tuple[str, Any]] = (
    ("FROM by_key ORDER BY k", None),
    ("FROM visitors ORDER BY k", None),
    ("FROM by_two ORDER BY ALL", None),
    ("SELECT view, epoch, position FROM everview.views ORDER BY view", None),
    ("SHOW TABLES", None),
    ("SUMMARIZE by_key", None),
    ("EXPLAIN FROM by_key", None),
    ("SELECT TIMESTAMPTZ '2026-01-01 00:00:00+02', TIMESTAMP_NS '2026-01-01 00:00:00.123'", None),
    ("SELECT timezone('Europe/Berlin', TIMESTAMP '2026-07-01'), DATE '99999-01-01'", None),
    (
        "SELECT strptime('2026-01-01 Asia/Tokyo', '%Y-%m-%d %Z'), TIME '10:00', TIMETZ '1:2+01'",
        None,
    ),
    ("SELECT 2::HUGEINT ** 100, 1.5::DECIMAL(38, 2), 'NaN'::DOUBLE, INTERVAL 1 MONTH", None),
    (
        "SELECT '\\xFF'::BLOB, '101'::BIT, uuid() IS NULL, [1, NULL], {'a': [1.5]}, map {1: 'x'}",
        None,
    ),
    (
        "SELECT 'ä' COLLATE de < 'b', lower('Ä'), regexp_matches('a', 'A', 'i')",
        None,
    ),
    ("SELECT random() < 0, now() IS NULL, (SELECT count(*) < 0 FROM by_key USING SAMPLE 1%)", None),
    ("SELECT $1, $2, $3, $4", [1, "a", [1, 2], {"a": None}]),
    ("SELECT $a::TIMESTAMPTZ + $b::INTEGER * INTERVAL 1 DAY", {"a": "2026-01-01", "b": 2}),
    ("SELECT $1", []),
    ("SELECT nix FROM by_key", None),
    ("FROM nowhere", None),
    ("SELECT 1 // 0", None),
    ("SELECT 'x'::INTEGER", None),
    ("SELEC", None),
    ("SELECT sleep_ms(1)", None),
)


class Work:
    """Tables as a worker has them, changes that come when it is confined, and statements."""

    def __init__(self, folder: Path) -> None:
        world = World(folder)
        world.epoch([{"k": "a", "u": 1, "n": 1, "moment": START}, {"k": None, "u": 2}])
        served = Served(world.state)
        served.catch_up()
        self.changes: list[bytes] = []
        self.apply = served.tables.apply

        def keep(change: Change, number: int | None = None) -> Change:  # noqa: ARG001
            self.changes.append(pack(change))
            return change

        served.tables.apply = keep  # type: ignore[method-assign]
        world.epoch([{"k": "a", "u": 9, "n": 5}])
        served.follow()
        world.seal()
        world.build("by_key")
        served.follow()
        self.tables = served.tables
        self.readable = [world.state / each for each in READ if (world.state / each).is_dir()]

    def answers(self) -> list[str]:
        """One for each statement in each form, errors too."""
        return [
            self._answer(Query(sql, params, 100, media_type))
            for sql, params in STATEMENTS
            for media_type in formats.WRITERS
        ]

    def _answer(self, query: Query) -> str:
        whole = Whole()
        try:
            Job(self.tables, query, lambda: 0.0).run(whole)
        except RequestError as error:
            return f"{error.code} {error.message}"
        return _told(whole.body(), query.media_type)


def _told(body: bytes, media_type: str) -> str:
    """Without bytes that have no meaning."""
    if media_type == formats.ARROW_TYPE:
        table = pa.ipc.open_stream(body).read_all()
    elif media_type == formats.PARQUET_TYPE:
        table = pq.read_table(pa.BufferReader(body))
    else:
        return body.decode()
    return str([column.to_string() for column in table.columns])


class Scene:
    """What the parent made before it forks: tables, a file that is open, a socket pair. Its folder
    is as new for each child."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.data = folder / "data"
        self.file = self.data / "t.parquet"
        self.outside = folder / "outside.txt"
        self.outside.write_text(CANARY)
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        self.run("SET GLOBAL async_threads = 0")
        self.run("SET GLOBAL TimeZone = 'UTC'")
        self.run("CREATE TABLE t AS SELECT i, i % 7 AS k FROM range(100000) r(i)")
        self.data.mkdir()
        self.run(f"COPY t TO '{self.file}'")
        self.run(f"CREATE VIEW files AS FROM read_parquet('{self.file}')")
        self._bytes = self.file.read_bytes()
        self.descriptor = os.open(self.outside, os.O_RDONLY)
        self.ours, self.theirs = socket.socketpair()
        self.pid = os.getpid()
        self.work = Work(folder)

    def renew(self) -> None:
        shutil.rmtree(self.data)
        self.data.mkdir()
        self.file.write_bytes(self._bytes)

    def unchanged(self) -> bool:
        return os.listdir(self.data) == [self.file.name] and self.file.read_bytes() == self._bytes

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


def write(scene: Scene) -> str:
    with scene.file.open("r+b") as file:
        file.write(b"evil")
    return "done"


def truncate_by_opening(scene: Scene) -> str:
    os.close(os.open(scene.file, os.O_WRONLY | os.O_TRUNC))
    return "done"


def truncate_by_reading(scene: Scene) -> str:
    os.close(os.open(scene.file, os.O_RDONLY | os.O_TRUNC))
    return "done"


def truncate(scene: Scene) -> str:
    os.truncate(scene.file, 1)
    return "done"


def create(scene: Scene) -> str:
    (scene.data / "evil").touch()
    return "done"


def unlink(scene: Scene) -> str:
    scene.file.unlink()
    return "done"


def rename(scene: Scene) -> str:
    scene.file.rename(scene.data / "evil")
    return "done"


def link(scene: Scene) -> str:
    os.link(scene.file, scene.data / "evil")
    return "done"


def make_folder(scene: Scene) -> str:
    (scene.data / "evil").mkdir()
    return "done"


def change_mode(scene: Scene) -> str:
    scene.file.chmod(0o777)
    return "done"


def change_times(scene: Scene) -> str:
    os.utime(scene.file, (0, 0))
    return "done"


def append(scene: Scene) -> str:
    """In a file of our own, where nothing but its size is limited."""
    with scene.outside.with_name("own").open("wb") as file:
        file.write(b"evil")
    return "done"


def read_inside(scene: Scene) -> int:
    return len(scene.file.read_bytes())


def read_outside(scene: Scene) -> str:
    return scene.outside.read_text()


def list_outside(scene: Scene) -> bool:
    return scene.outside.name in os.listdir(scene.outside.parent)


def read_inherited(scene: Scene) -> str:
    return os.pread(scene.descriptor, 100, 0).decode()


def connect(scene: Scene) -> str:
    with socket.socket() as caller:  # `create_connection` would import a module first
        caller.settimeout(5)
        caller.connect(("127.0.0.1", scene.port))
    return "done"


def send_datagram(scene: Scene) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"evil", ("127.0.0.1", scene.port))
    return "done"


def talk(scene: Scene) -> str:
    """Over the socket that was kept."""
    scene.theirs.sendall(b"answer")
    return scene.ours.recv(100).decode()


def allocate(scene: Scene) -> str:  # noqa: ARG001
    mmap.mmap(-1, 2 * ALLOWANCE).close()
    return "done"


def allocate_in_engine(scene: Scene) -> str:
    """DuckDB's own limit knows nothing of texts."""
    scene.run("SELECT length(repeat('x', 1000000000))")
    return "done"


def open_many(scene: Scene) -> str:
    for _ in range(2 * DESCRIPTORS):
        os.open(scene.file, os.O_RDONLY)
    return "done"


def environment(scene: Scene) -> str:  # noqa: ARG001
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    shown = Path("/proc/self/environ").read_bytes().strip(b"\0").decode()
    return f"{os.environ.get('SECRET', '')}{(libc.getenv(b'SECRET') or b'').decode()}{shown}"


def execute(scene: Scene) -> None:  # noqa: ARG001
    os.execv("/bin/true", ["true"])


def fork(scene: Scene) -> str:  # noqa: ARG001
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return "done"


def start_thread(scene: Scene) -> str:  # noqa: ARG001
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append("done"))
    thread.start()
    thread.join(10)
    return said[0]


def signal_parent(scene: Scene) -> str:
    os.kill(scene.pid, 0)
    return "done"


def signal_itself(scene: Scene) -> str:  # noqa: ARG001
    os.kill(os.getpid(), 0)
    return "done"


def privileges(scene: Scene) -> list[str]:  # noqa: ARG001
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = dict(line.split(":\t", 1) for line in lines)
    return [facts["CapEff"].strip("0"), facts["CapPrm"].strip("0"), facts["NoNewPrivs"]]


def look_into(scene: Scene) -> str:  # noqa: ARG001
    """By another process of the same user, without privileges: what only its own may see."""
    read, write = os.pipe()
    target = os.getpid()
    if os.fork() == 0:
        _answer(write, _tried(lambda: Path(f"/proc/{target}/environ").read_bytes() and "done"))
    return str(json.loads(os.read(read, 100)))


def work(scene: Scene) -> list[Any]:
    """Does it answer as the parent does, and take what comes?"""
    before = scene.work.answers()
    for change in scene.work.changes:
        scene.work.apply(unpack(change))
    read = scene.work.tables.cursor().execute("SELECT hits, total FROM by_key ORDER BY ALL")
    return [before, read.fetchall(), len(scene.work.changes)]


def core(scene: Scene) -> int:  # noqa: ARG001
    return resource.getrlimit(resource.RLIMIT_CORE)[0]


def query_tables(scene: Scene) -> list[Any]:
    return scene.run("SELECT k, sum(i) FROM t GROUP BY k ORDER BY k")[0:1]


def query_files(scene: Scene) -> list[Any]:
    return scene.run("SELECT k, sum(i) FROM files GROUP BY k ORDER BY k")[0:1]


def query_chance(scene: Scene) -> bool:
    scene.run("SELECT random(), uuid(), now()")
    return bool(os.urandom(8))


def engine_copy(scene: Scene) -> str:
    scene.run(f"COPY (SELECT 1) TO '{scene.data / 'evil.parquet'}'")
    return "done"


def engine_overwrite(scene: Scene) -> str:
    scene.run(f"COPY (SELECT 1) TO '{scene.file}'")
    return "done"


def engine_attach(scene: Scene) -> str:
    scene.run(f"ATTACH '{scene.data / 'evil.db'}' AS evil")
    return "done"


def engine_export(scene: Scene) -> str:
    scene.run(f"EXPORT DATABASE '{scene.data / 'evil'}'")
    return "done"


def engine_read_outside(scene: Scene) -> str:
    return str(scene.run(f"SELECT content FROM read_text('{scene.outside}')")[0][0])


def engine_read_passwords(scene: Scene) -> str:
    return str(len(scene.run("SELECT content FROM read_text('/etc/passwd')")))


PROBES: dict[str, Callable[[Scene], Any]] = {
    each.__name__: each
    for each in (
        write,
        truncate_by_opening,
        truncate_by_reading,
        truncate,
        create,
        unlink,
        rename,
        link,
        make_folder,
        change_mode,
        change_times,
        append,
        read_inside,
        read_outside,
        list_outside,
        read_inherited,
        connect,
        send_datagram,
        talk,
        allocate,
        allocate_in_engine,
        open_many,
        environment,
        execute,
        fork,
        start_thread,
        signal_parent,
        signal_itself,
        privileges,
        work,
        look_into,
        core,
        query_tables,
        query_files,
        query_chance,
        engine_copy,
        engine_overwrite,
        engine_attach,
        engine_export,
        engine_read_outside,
        engine_read_passwords,
    )
}


def main(folder: Path, port: int) -> None:
    prepare()
    scene = Scene(folder, port)
    for line in sys.stdin:
        scene.renew()
        sys.stdout.write(json.dumps(_forked(scene, **json.loads(line))) + "\n")
        sys.stdout.flush()


def _forked(scene: Scene, layers: list[str] | None, probe: str) -> list[Any]:
    """What the child said, and whether the folder is unchanged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _answer(write, _child(scene, layers, probe, write))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [json.loads(answer) if answer else f"ended with {status}", scene.unchanged()]


def _answer(pipe: int, answer: Any) -> None:
    os.write(pipe, json.dumps(answer).encode())
    os._exit(0)


def _child(scene: Scene, layers: list[str] | None, probe: str, pipe: int) -> Any:
    limits = Limits(ALLOWANCE, DESCRIPTORS)
    keep = {scene.ours.fileno(), scene.theirs.fileno(), pipe}

    def tried() -> Any:
        readable = [scene.data, *scene.work.readable]
        found = confine(limits, readable, keep=keep, layers=layers)
        return found.json() if probe == "confinement" else PROBES[probe](scene)

    return _tried(tried)


def _tried(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except (duckdb.Error, MemoryError) as error:
        return type(error).__name__
    except Exception:  # noqa: BLE001 it would be lost in a fork
        return traceback.format_exc()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
