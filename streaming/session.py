"""The one Spark session of the driver, with every setting that small micro-batches need."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

import streaming
from streaming.settings import Settings, milliseconds

log = logging.getLogger("streaming")

LOCAL_MASTER = "local[2,4]"  # two tasks at a time, four attempts each; local[2] never retries
QUIET = ("SQLQueryContextLogger", "py4j", "kafka")  # they repeat, in many lines, what we report
CHECKPOINTS = "org.apache.spark.sql.execution.streaming.checkpointing"
TEST_VARIABLES = ("EVERVIEW_FAILPOINTS", "EVERVIEW_TEST")

# Spark's own log: never on the driver's stderr, which has one line per event.
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
logger.network.name = org.apache.kafka.clients.NetworkClient
logger.network.level = error
"""


def levers(settings: Settings) -> dict[str, str]:
    """Spark settings that hold under every master."""
    found = {
        "spark.app.name": "everview streaming",
        "spark.driver.memory": settings.driver_memory,
        "spark.scheduler.mode": "FAIR",  # a long epoch of one stream does not hold back another's
        "spark.speculation": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.arrow_rows),
        "spark.sql.streaming.checkpointFileManagerClass": (
            f"{CHECKPOINTS}.FileSystemBasedCheckpointFileManager"
        ),
        "spark.sql.streaming.minBatchesToRetain": "10",
        "spark.sql.streaming.numRecentProgressUpdates": "2",
        "spark.sql.streaming.pollingDelay": milliseconds(settings.polling_delay),
        "spark.sql.streaming.stopTimeout": milliseconds(settings.stop_timeout),
        # The checked local file system forks `chmod` for each file of a checkpoint.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        # Over TCP each Python task waits 40 ms for its input.
        "spark.python.unix.domain.socket.enabled": "true",
    }
    if settings.connector:
        found["spark.jars"] = ",".join(settings.connector)
    for name in TEST_VARIABLES:
        if name in os.environ:
            found[f"spark.executorEnv.{name}"] = os.environ[name]
    return found


def local_levers(settings: Settings) -> dict[str, str]:
    """Spark settings of a session whose tasks run on this machine."""
    return {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(_empty(settings.scratch / "local")),
        "spark.sql.warehouse.dir": str(settings.scratch / "warehouse"),
    }


def open_session(settings: Settings) -> SparkSession:
    """Start (or, under spark-submit, join) the JVM. What spark-submit was given stays as it is."""
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
        wanted["spark.driver.extraJavaOptions"] = _jvm_options(settings)
    if str(conf.get("spark.master", "")).startswith("local"):
        wanted |= local_levers(settings)
        wanted["spark.executorEnv.PYTHONPATH"] = _python_path()
    for key, value in wanted.items():
        conf.setIfMissing(key, value)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    if submitted:
        session.sparkContext.setLogLevel("ERROR")
    return session


def own_cores(session: SparkSession) -> int:
    """The cores that one task may take while no other is at work: under a local master all of
    them; a cluster gives a task one."""
    context = session.sparkContext
    return context.defaultParallelism if (context.master or "").startswith("local") else 1


def warm(session: SparkSession) -> None:
    """Start the Python workers and have them import what tasks need."""
    tasks = session.sparkContext.defaultParallelism
    session.range(tasks, numPartitions=tasks).mapInArrow(_import_all, "pid long").collect()


def is_alive(session: SparkSession) -> bool:
    """Whether the JVM answers."""
    process = _process()
    if process is not None and process.poll() is not None:
        return False
    try:
        return not session.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError):
        return False


def close_session(session: SparkSession, patience: float = 4.0) -> None:
    """Stop Spark and see its JVM end; a JVM that is gone already is stopped too."""
    process = _process()
    try:
        session.stop()
    except (Py4JError, OSError):
        log.info("the JVM was gone before it could be stopped")
    if process is None or process.stdin is None:
        return
    process.stdin.close()  # the JVM of a Python driver ends with its standard input
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _import_all(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from streaming import sealing  # noqa: F401
    from streaming.task import worker_engine

    for _ in batches:
        worker_engine()
        yield pa.record_batch({"pid": pa.array([os.getpid()], pa.int64())})


def _process() -> subprocess.Popen[bytes] | None:
    gateway = SparkContext._gateway
    return cast("subprocess.Popen[bytes] | None", getattr(gateway, "proc", None))


def _jvm_options(settings: Settings) -> str:
    """Log4j reads its settings from a file, so one is written."""
    folder = _folder(settings.scratch)
    file = folder / "log4j2.properties"
    file.write_text(LOG4J.format(log=folder / "spark.log"), encoding="utf-8")
    return f'"-Dlog4j2.configurationFile={file.as_uri()}" -Duser.timezone=UTC'


def _python_path() -> str:
    """Where this package lies, a folder or a zip, for workers that do not inherit the path."""
    root = str(Path(str(streaming.__file__)).parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    return root if not known else f"{root}{os.pathsep}{known}"


def _empty(path: Path) -> Path:
    """A killed JVM leaves its files behind."""
    shutil.rmtree(path, ignore_errors=True)
    return _folder(path)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()
