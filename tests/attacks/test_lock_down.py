"""The database alone, without the guard in front: what its settings and transactions stop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from schemas.errors import SettingRefused
from serving.worker import tables
from serving.worker.tables import LOCK_DOWN, Tables

CANARY = "canary-77aa"
# what is stopped wherever it is tried, files outside, the network, settings
STOPPED = (
    "SELECT * FROM read_text('{outside}')",
    "SELECT * FROM read_blob('{outside}')",
    "SELECT * FROM read_csv('{outside}')",
    "SELECT * FROM '{outside}'",
    "SELECT * FROM read_text('{inside}/../{name}')",
    "SELECT * FROM read_text('{inside}/link')",
    "SELECT * FROM read_text('file://{outside}')",
    "SELECT * FROM glob('{outside}')",
    "SELECT * FROM read_parquet('http://127.0.0.1:{port}/x.parquet')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "ATTACH '{outside}.db' AS a",
    "ATTACH 'http://127.0.0.1:{port}/x.db' AS a",
    "COPY (SELECT 1) TO '{outside}'",
    "COPY (SELECT 1) TO '{inside}/../{name}'",
    "EXPORT DATABASE '{outside}.d'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{outside}'",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET GLOBAL threads = 100",
    "SET memory_limit = '100GB'",
    "SET allowed_directories = ['/']",
    "SET temp_directory = '{inside}'",
    "RESET memory_limit",
    "PRAGMA threads = 2",
    "SELECT * FROM canary",
)
WRITES = (
    "INSERT INTO t VALUES (1)",
    "DELETE FROM t",
    "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
    "CREATE TABLE u (i INTEGER)",
    "DROP VIEW v",
    "CREATE OR REPLACE VIEW v AS SELECT 666",
    "CREATE MACRO sum(x) AS 42",
    "EXPLAIN ANALYZE DELETE FROM t",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "inside's").mkdir()
    (folder / "outside.csv").write_text(f"{CANARY}\n1\n")
    (folder / "inside's" / "link").symlink_to(folder / "outside.csv")
    duckdb.execute(
        "COPY (SELECT 42 AS i) TO $file", {"file": str(folder / "inside's" / "x.parquet")}
    )
    return folder


@pytest.fixture(scope="module", params=["readable", "closed"])
def locked(folder: Path, request: pytest.FixtureRequest) -> Iterator[Tables]:
    tables = Tables(readable=[folder / "inside's"] if request.param == "readable" else ())
    cursor = tables.cursor()
    cursor.execute("CREATE TABLE t AS SELECT 7 AS i")
    cursor.execute("CREATE VIEW v AS FROM t")
    cursor.close()
    yield tables
    tables.close()


@pytest.mark.parametrize("sql", STOPPED)
def test_settings_alone_stop(locked: Tables, folder: Path, sql: str) -> None:
    canary = [CANARY]  # noqa: F841 a variable of Python that a statement names
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        sql = sql.replace("{inside}", str(folder / "inside's").replace("'", "''"))
        sql = sql.replace("{outside}", str(folder / "outside.csv")).replace("{name}", "outside.csv")
        sql = sql.replace("{port}", str(listener.getsockname()[1]))
        cursor = locked.cursor()
        with pytest.raises((duckdb.Error, RuntimeError)):
            cursor.execute(sql).fetchall()
        cursor.close()
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert sorted(each.name for each in folder.iterdir()) == ["inside's", "outside.csv"]
    assert (folder / "outside.csv").read_text() == f"{CANARY}\n1\n"


@pytest.mark.parametrize("sql", WRITES)
def test_a_transaction_that_reads_alone_stops(locked: Tables, sql: str) -> None:
    cursor = locked.cursor()
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    with pytest.raises(duckdb.Error):
        cursor.execute(sql).fetchall()
    cursor.execute("ROLLBACK")
    assert cursor.execute("SELECT sum(i) FROM v").fetchall() == [(7,)]
    cursor.close()


def test_views_read_files_of_the_given_folders_alone(folder: Path) -> None:
    file = str(folder / "inside's" / "x.parquet")
    open_, closed = Tables(readable=[folder / "inside's"]), Tables()
    sql = "SELECT i FROM read_parquet($file)"
    assert open_.cursor().execute(sql, {"file": file}).fetchall() == [(42,)]
    with pytest.raises(duckdb.PermissionException):
        closed.cursor().execute(sql, {"file": file})


def test_the_settings_are_these() -> None:
    """Some stop the same as others do, and stay all the same."""
    off = [f"auto{what}_known_extensions" for what in ("install", "load")]
    off += ["allow_community_extensions", "allow_persistent_secrets"]
    off += ["python_enable_replacements", "enable_external_access"]
    on = {"TimeZone": "UTC", "errors_as_json": "true", "lock_configuration": "true"}
    expected = dict.fromkeys(off, "false") | on | {"temp_directory": ""}
    assert expected.items() <= dict(LOCK_DOWN).items()
    assert LOCK_DOWN[-1][0] == "lock_configuration"


def test_each_setting_is_what_it_was_set_to(folder: Path) -> None:
    held = Tables(readable=[folder]).cursor()
    settings = dict(held.execute("SELECT name, value FROM duckdb_settings()").fetchall())
    assert settings["threads"] == "1"
    assert settings[tables.FOLDERS] == f"[{folder}/]"
    for name, value in LOCK_DOWN:
        if name != tables.FOLDERS:
            assert settings[name].lower() == value.lower(), name


def test_a_setting_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (("memory_limit", "1GB"), *LOCK_DOWN)  # read back in other words
    monkeypatch.setattr(tables, "LOCK_DOWN", wrong)
    with pytest.raises(SettingRefused, match="setting 'memory_limit' must be '1GB'"):
        Tables()
