"""A DAG per view of everview: choose a cut, rebuild, prove, publish.

What there is to build stands in the file that the variable EVERVIEW_DAGS names, which
`everview deploy` and `everview up` write. Nothing of everview is imported here: its commands run
in processes of their own, and what they decide they decide in everview's ledger.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Asset, BaseOperator, Context, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

VARIABLE = "EVERVIEW_DAGS"
FORMAT = 1

HELD = 3
"""The exit code of a command that is not ours to do: another build of the view is at work."""

TRIES = {"retries": 2, "retry_delay": timedelta(seconds=10)}
BUILD = "{{ ti.xcom_pull(task_ids='choose_cut')['id'] }}"
FULL = "{{ '--full' if params.full else '' }}"
UNTIL = "{{ '--until=%d' % params.until if params.until else '' }}"


class Everview(BaseOperator):
    """Runs a command of everview's. What it says is the task's log, its line of JSON the result.

    A command that was killed is tried again; one that says no is not.
    """

    template_fields: Sequence[str] = ("command",)

    def __init__(self, *, command: list[str], **rest: Any) -> None:
        super().__init__(**rest)
        self.command = command
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        code, lines = self._run([each for each in self.command if each])
        told: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
        if code == 0:
            return told[-1]
        reason = next((line for line in reversed(lines) if line), "it said nothing")
        if code < 0 or self._stopped:
            message = f"stopped by a signal: {reason}"
            raise AirflowException(message)
        return self.refused(code, reason)

    def refused(self, code: int, reason: str) -> dict[str, Any]:
        """What comes of a command that says no."""
        message = f"exit code {code}: {reason}"
        raise AirflowException(message) if code == HELD else AirflowFailException(message)

    def _run(self, command: list[str]) -> tuple[int, list[str]]:
        lines = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as self._process:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                lines.append(line.rstrip())
                self.log.info("%s", lines[-1])
        return self._process.returncode, lines

    def on_kill(self) -> None:
        """Asks the command to end, which leaves a build that can go on; then makes it."""
        self._stopped = True
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


class ChooseCut(Everview):
    """Begins a build, unless there is nothing to build or another one is at work."""

    def execute(self, context: Context) -> dict[str, Any]:
        begun = super().execute(context)
        if begun["id"] is None:
            message = f"published up to epoch {begun['cut']} already; there is nothing to build"
            raise AirflowSkipException(message)
        return begun

    def refused(self, code: int, reason: str) -> dict[str, Any]:
        if code == HELD:
            raise AirflowSkipException(reason)
        return super().refused(code, reason)


class Publish(Everview):
    """Serves a proven build, and tells whoever waits for the view's asset."""

    def execute(self, context: Context) -> dict[str, Any]:
        told = super().execute(context)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {
                name: told[name] for name in ("publication", "cut", "rows", "verdict")
            }
        return told


def told() -> dict[str, Any]:
    """What EVERVIEW_DAGS says, or an error that Airflow shows as the import error of this file."""
    named = os.environ.get(VARIABLE)
    way_out = "`everview deploy` writes it, as dags.json in the state"
    if not named:
        message = f"{VARIABLE} must name a file; it is not set. {way_out}"
        raise AirflowException(message)
    try:
        found: Any = json.loads(Path(named).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{VARIABLE} must name a file with JSON; got {named}: {error}. {way_out}"
        raise AirflowException(message) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        message = f"{named} must be of format {FORMAT}. {way_out}; use one release of everview"
        raise AirflowException(message)
    return found


def dag_of(view: dict[str, Any], of: dict[str, Any]) -> DAG:
    """The DAG that rebuilds a view."""
    schedule = view["schedule"]
    python = [of["python"], "-P", "-m"]
    state = ["--state", of["state"], "--json"]
    batch = [*python, "batch.run", *state, *of["flags"], "--build", BUILD]
    asset = Asset(name=f"everview_{view['name']}", uri=f"everview://views/{view['name']}")
    with DAG(
        dag_id=f"rebuild_{view['name']}",
        description=f"Rebuilds view {view['name']} (over {view['about']}), proves it, publishes it",
        doc_md=documents(view),
        schedule=CronTriggerTimetable(schedule, timezone="UTC") if schedule else None,
        catchup=False,  # runs that were missed come to one
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["everview", f"stream:{view['stream']}"],
        params={
            "full": Param(
                False,
                type="boolean",
                title="From the whole master",
                description="Count every event again, not only those since the last publication.",
            ),
            "until": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                title="Up to this epoch",
                description="The cut is the last sealed epoch up to here; without it the newest.",
            ),
        },
        # what is begun is finished before something else begins
        default_args={"pool": of["pool"], "weight_rule": "upstream", **TRIES},
    ) as dag:
        choose_cut = ChooseCut(
            task_id="choose_cut",
            doc_md="Has the stream sealed and begins a build, up to the newest sealed epoch. "
            "Skipped where nothing is new, or where another build of the view is at work.",
            command=[
                *(*python, "infra", "rebuild", view["name"], "--step", "plan", *state),
                *("--project", of["project"], FULL, UNTIL),
            ],
        )
        rebuild = SparkSubmitOperator(
            task_id="rebuild",
            doc_md="Folds the master in Spark and writes the batch view.",
            name=f"everview rebuild {view['name']}",
            conn_id=of["connection"],
            conf={"spark.pyspark.driver.python": of["python"], "spark.log.level": "WARN"},
            driver_memory=of["driver_memory"],
            py_files=of["py_files"],
            application=of["application"],
            application_args=[*batch[3:], "--step", "rebuild"],
        )
        prove = Everview(
            task_id="prove",
            doc_md="Compares the batch view with what speed counted and with the view's own "
            "SELECT. Red: they differ, the log says where, and nothing is published.",
            command=[*batch, "--step", "prove"],
        )
        publish = Publish(
            task_id="publish",
            doc_md="Serves the batch view in place of every epoch up to its cut.",
            command=[*batch, "--step", "publish"],
            outlets=[asset],
        )
        release = Everview(
            task_id="release",
            doc_md="Gives up a build that did not come to its publication, so that the next run "
            "can begin at once.",
            command=[*batch, "--step", "release"],
        ).as_teardown(setups=choose_cut)
        choose_cut >> rebuild >> prove >> publish >> release
    return dag


def documents(view: dict[str, Any]) -> str:
    """What the DAG's page says."""
    schedule = f"`{view['schedule']}` (UTC)" if view["schedule"] else "none: started by hand"
    return (
        f"Rebuilds view **{view['name']}** from the master, proves the result and publishes it.\n\n"
        f"| | |\n|---|---|\n"
        f"| over | {view['about']} |\n"
        f"| version | `{view['version']}` |\n"
        f"| schedule | {schedule} |\n\n"
        f"```sql\n{view['sql']}\n```\n"
    )


EVERVIEW = told()
for each in EVERVIEW["views"]:
    dag_of(each, EVERVIEW)
