"""Airflow in a process of its own, as Airflow's own processes load the DAG file: nothing of
everview is imported here, and nothing of the tests.

    parse OUT               what the DAGs folder holds
    runs                    a line of JSON each, OUT, LOG, DAG_ID, CONF, VARIABLES: a process with
                            these variables, forked where Airflow is imported, and its exit code
                            on stdout. It is a run of a DAG by Airflow's own `dag.test()`
    stop OUT                a command of the DAG file, until SIGTERM, which Airflow sends to a task

What came of it is written to OUT as JSON; the log goes to LOG or to stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

OURS = ("schemas", "streaming", "batch", "serving", "infra", "dags", "tests", "pyspark", "duckdb")

ONE_TRY = "ONE_TRY"
"""Set: no task is tried again."""

FAIL_ONCE = "FAIL_ONCE"
"""The failpoints of the first spark-submit alone."""


def parse() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    before = set(sys.modules)
    bag = DagBag()
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    return {
        "errors": list(bag.import_errors.values()),
        "dags": {dag_id: _shown(dag) for dag_id, dag in bag.dags.items()},
        "ours": sorted(loaded & set(OURS) | before & set(OURS)),
    }


def _shown(dag: Any) -> dict[str, Any]:
    from airflow.serialization.serialized_objects import DagSerialization

    DagSerialization.to_dict(dag)  # as Airflow stores it
    return {
        "schedule": getattr(dag.timetable, "expression", None),
        "timezone": str(dag.timezone),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "paused": dag.is_paused_upon_creation,
        "tags": sorted(dag.tags),
        "docs": dag.doc_md,
        "params": dag.params.dump(),
        "forms": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {
            task.task_id: {
                "after": sorted(task.upstream_task_ids),
                "pool": task.pool,
                "weight": task.weight_rule.__class__.__name__ + str(task.weight_rule),
                "teardown": task.is_teardown,
                "retries": task.retries,
                "outlets": [[each.name, each.uri] for each in task.outlets],
                "command": getattr(task, "command", None),
            }
            for task in dag.tasks
        },
    }


def runs() -> None:
    import airflow.dag_processing.dagbag
    import airflow.models.asset
    import airflow.models.xcom
    import airflow.providers.apache.spark.operators.spark_submit
    import airflow.utils.session  # noqa: F401

    for line in sys.stdin:
        out, log, dag_id, conf, variables = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _forked(Path(out), Path(log), dag_id, conf, variables)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _forked(out: Path, log: Path, dag_id: str, conf: str, variables: dict[str, str]) -> None:
    """Never returns."""
    code = 1
    try:
        with log.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ |= variables
        out.write_text(json.dumps(run(dag_id, conf), default=str), encoding="utf-8")
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(dag_id: str, conf: str) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    bag = DagBag()
    dag = bag.dags[dag_id]
    if ONE_TRY in os.environ:
        for task in dag.tasks:
            task.retries = 0
    if FAIL_ONCE in os.environ:
        _fail_once(os.environ.pop(FAIL_ONCE))
    found = dag.test(run_conf=json.loads(conf))
    with create_session() as session:
        this_run = AssetEvent.source_run_id == found.run_id
        of_asset = AssetEvent.asset_id == AssetModel.id
        events = session.query(AssetModel.uri, AssetEvent.extra).filter(of_asset, this_run).all()
        results = session.query(XComModel).filter(
            XComModel.run_id == found.run_id, XComModel.key == "return_value"
        )
        return {
            "state": str(found.state),
            "tasks": {each.task_id: str(each.state) for each in found.get_task_instances()},
            "tries": {each.task_id: each.try_number for each in found.get_task_instances()},
            "assets": dict(events),
            "results": {each.task_id: XComModel.deserialize_value(each) for each in results},
        }


def _fail_once(failpoints: str) -> None:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    submit = SparkSubmitHook.submit

    def first(self: SparkSubmitHook, application: str = "", **rest: Any) -> str | None:
        SparkSubmitHook.submit = submit  # type: ignore[method-assign]
        os.environ |= {"EVERVIEW_FAILPOINTS": failpoints, "EVERVIEW_TEST": "1"}
        try:
            return submit(self, application, **rest)
        finally:
            del os.environ["EVERVIEW_FAILPOINTS"]

    SparkSubmitHook.submit = first  # type: ignore[method-assign]


def stop() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    task: Any = next(iter(DagBag().dags.values())).task_dict["prove"]
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    task.command = [sys.executable, "-c", code]

    def on_term(_number: int, _frame: FrameType | None) -> None:
        task.on_kill()

    signal.signal(signal.SIGTERM, on_term)
    try:
        task.execute({})
    except Exception as error:  # noqa: BLE001  what it is, is what the test asks
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None}


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "runs":
        runs()
    else:
        told = {"parse": parse, "stop": stop}[command]()
        Path(rest[0]).write_text(json.dumps(told, default=str), encoding="utf-8")
