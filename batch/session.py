"""The Spark session of rebuilds: started when a view has something to build."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

import batch
from batch.settings import Settings

LOCAL_MASTER = "local[2,4]"  # two tasks at a time, four attempts each; local[2] never retries
QUIET = ("SQLQueryContextLogger", "py4j")  # they repeat, in many lines, what we report
TEST_VARIABLES = ("EVERVIEW_FAILPOINTS", "EVERVIEW_TEST")
ROWS_PER_BATCH = 8  # a row is a piece of partials, of a megabyte or so

# Spark's own log: never on stderr, which has one line per event.
LOG4J = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd'T'HH:mm:ss.SSS}}{{UTC}}Z %p %c{{1}}: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
"""


def levers(settings: Settings) -> dict[str, str]:
    """Spark settings that hold under every master."""
    found = {
        "spark.app.name": "everview rebuild",
        "spark.driver.memory": settings.driver_memory,
        "spark.speculation": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS_PER_BATCH),
        # The checked local file system forks `chmod` for each file.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        # Over TCP each Python task waits 40 ms for its input.
        "spark.python.unix.domain.socket.enabled": "true",
    }
    for name in TEST_VARIABLES:
        if name in os.environ:
            found[f"spark.executorEnv.{name}"] = os.environ[name]
    return found


@contextmanager
def session(settings: Settings) -> Iterator[SparkSession]:
    """Start (or, under spark-submit, join) the JVM, and see it end."""
    scratch = _folder(settings.scratch)
    found = _open(settings, scratch)
    try:
        yield found
    finally:
        _close(found)


def _open(settings: Settings, scratch: Path) -> SparkSession:
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    wanted = levers(settings)
    if submitted:
        SparkContext._ensure_initialized()
        conf = SparkConf()
        if settings.master is not None:
            conf.setMaster(settings.master)
    else:
        conf = SparkConf(loadDefaults=False).setMaster(settings.master or LOCAL_MASTER)
        log = scratch / "log4j2.properties"
        log.write_text(LOG4J.format(log=scratch.parent / "batch.log"), encoding="utf-8")
        wanted["spark.driver.extraJavaOptions"] = (
            f'"-Dlog4j2.configurationFile={log.as_uri()}" -Duser.timezone=UTC'
        )
    if str(conf.get("spark.master", "")).startswith("local"):
        wanted |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(_folder(scratch / "local")),
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
            "spark.executorEnv.PYTHONPATH": _python_path(),
        }
    for key, value in wanted.items():
        conf.setIfMissing(key, value)
    found = SparkSession.builder.config(conf=conf).getOrCreate()
    # a bucket must reach one task whole, whatever spark-submit was given
    found.conf.set("spark.sql.adaptive.enabled", "false")
    found.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(ROWS_PER_BATCH))
    if submitted:
        found.sparkContext.setLogLevel("ERROR")
    return found


def _close(found: SparkSession, patience: float = 4.0) -> None:
    process = cast("subprocess.Popen[bytes] | None", getattr(SparkContext._gateway, "proc", None))
    try:
        found.stop()
    except (Py4JError, OSError):
        logging.getLogger("batch").info("the JVM was gone before it could be stopped")
    if process is None or process.stdin is None:
        return
    process.stdin.close()  # the JVM of a Python driver ends with its standard input
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _python_path() -> str:
    """Where this package lies, a folder or a zip, for workers that do not inherit the path."""
    root = str(Path(str(batch.__file__)).parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    return root if not known else f"{root}{os.pathsep}{known}"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()
