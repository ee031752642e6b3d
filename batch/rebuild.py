"""Both stages of a rebuild in Spark, which divides the work, retries it, and shuffles pieces by
bucket. What a task does stands in `batch.stages`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark import SparkFiles
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from batch import stages
from batch.stages import Job
from schemas.errors import BuildFailed
from schemas.ledger.files import DataFile

PIECE: dict[str, pa.DataType] = {"bucket": pa.int32(), "piece": pa.binary()}
PIECES = pa.schema(PIECE)
PIECES_IN_SPARK = "bucket int, piece binary"
FILES_IN_SPARK = "file string"
# the last line of a traceback of Python: the class of an error and its message
ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|File|Root|Failed): .*$", re.MULTILINE)
OURS = re.compile(r"^(?:schemas|batch)\.errors\.\w+: ")
SHOWN = 500  # characters of an error that nobody foresaw


@dataclass(frozen=True)
class FoldParts:
    """The first stage: a task per part, which is told by its number."""

    job: Job

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in chain.from_iterable(each.column(0).to_numpy() for each in batches):
            for bucket, piece in stages.fold(self.job, self.job.parts[int(number)], _spill()):
                rows: dict[str, list[Any]] = {"bucket": [bucket], "piece": [piece]}
                yield pa.RecordBatch.from_pydict(rows, schema=PIECES)


@dataclass(frozen=True)
class MergeBuckets:
    """The second stage: a task for each bucket, or for several."""

    job: Job

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pieces = (
            (int(bucket.as_py()), bytes(piece.as_py()))
            for each in batches
            for bucket, piece in zip(each.column(0), each.column(1), strict=True)
        )
        for file in stages.merge(self.job, pieces, temp=_spill()):
            yield pa.record_batch({"file": pa.array([stages.to_json(file)], pa.string())})


def in_spark(spark: SparkSession, job: Job) -> list[DataFile]:
    """The files of a build; none where no task found a group."""
    if not job.parts:
        return []
    count = len(job.parts)
    try:
        pieces = spark.range(count, numPartitions=count).mapInArrow(FoldParts(job), PIECES_IN_SPARK)
        gathered = pieces.repartitionById(job.buckets, "bucket")
        rows = gathered.mapInArrow(MergeBuckets(job), FILES_IN_SPARK).collect()
    except (PySparkException, Py4JError) as error:
        raise BuildFailed(job.view.name, reason(str(error))) from error
    return [stages.from_json(row["file"]) for row in rows]


def _spill() -> Path:
    """Spark's own folder, which goes with its application."""
    return Path(SparkFiles.getRootDirectory())


def reason(text: str) -> str:
    """What a task failed with, of what Spark says about it."""
    found = ERROR.findall(text)
    if found:
        return OURS.sub("", " ".join(found[-1].split()))[:SHOWN]
    lines = text.strip().splitlines()
    return (lines[0] if lines else "Spark gave no reason")[:SHOWN]
