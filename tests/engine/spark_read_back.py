"""Runs `infra/spark/main.py` with the arguments it is given, then reads the finished files of views
by the same Spark: `spark-submit ... spark_read_back.py MAIN OUT batch.run --state DIR VIEW...`."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from pyspark.sql import SparkSession


def main() -> int:
    entry, out, *arguments = sys.argv[1:]
    sys.argv = [entry, *arguments]
    try:
        runpy.run_path(entry, run_name="__main__")
    except SystemExit as left:
        if left.code:
            return int(left.code)
    session = SparkSession.builder.getOrCreate()
    views = Path(arguments[arguments.index("--state") + 1], "views")
    found = {}
    for file in views.glob("*/current.json"):
        told = json.loads(file.read_text(encoding="utf-8"))
        paths = [str(file.parent / each["path"]) for each in told["files"]]
        rows = session.read.parquet(*paths)
        found[file.parent.name] = [[str(value) for value in row] for row in rows.collect()]
    Path(out).write_text(json.dumps(found), encoding="utf-8")
    session.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
