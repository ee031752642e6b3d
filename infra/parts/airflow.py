"""Airflow: `airflow standalone` with its home in `<state>/airflow`, on loopback.

It brings four processes of its own and ends them only on SIGINT, so it runs under infra.guard.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from infra import processes
from infra.files import replace
from infra.stack import AIRFLOW
from infra.supervisor import Health, Part

USER = "admin"
PASSWORDS = "simple_auth_manager_passwords.json.generated"
"""Where Airflow looks for the passwords of its users, in its home."""

NEEDED = ("apache-airflow", "apache-airflow-providers-apache-spark")
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
ANSWER_WITHIN = 15.0
PARALLELISM = 4

# The servers of task logs would listen on all interfaces, and no setting changes that. Nobody needs
# them here: the API server finds the logs on the same disk.
COMMAND = """\
#!/bin/sh
case "$1" in scheduler | triggerer) set -- "$@" --skip-serve-logs ;; esac
exec {python} -P -m airflow "$@"
"""


def lack() -> str | None:
    """Which package is missing, or None where Airflow can run."""
    for name in NEEDED:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            return f"{name} is not installed: pip install 'everview[airflow]'"
    return None


def part(state: Path, port: int, *, dags: Path, file: Path, master: str) -> Part:
    """Airflow at a port. `dags` is the folder of the DAG files, `file` what they read, `master` the
    Spark master of what they submit. It starts when an answer is possible."""
    home = state / "airflow"

    def probe(pid: int, _now: datetime) -> Health:
        return health(port, pid)

    return Part(
        name=AIRFLOW,
        command=(
            sys.executable,
            "-P",
            "-m",
            "infra.guard",
            str(home / "bin" / "airflow"),
            "standalone",
        ),
        environment=environment(home, port, dags=dags, file=file, master=master),
        probe=probe,
        prepare=lambda: prepare(home),
        grace=9.0,
        every=1.0,
        # a late heartbeat, beside a build on a small machine, is no reason to kill that build
        patience=300.0,
        after=("streaming", "serving"),
    )


def prepare(home: Path) -> None:
    """The home, for its owner alone, with the command and the password of the user."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    command = home / "bin" / "airflow"
    replace(command, COMMAND.format(python=shlex.quote(sys.executable)))
    command.chmod(0o700)
    file = home / PASSWORDS
    if USER not in _passwords(file):
        kept = {**_passwords(file), USER: secrets.token_urlsafe(12)}
        file.unlink(missing_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(json.dumps(kept) + "\n")


def password_file(state: Path) -> Path:
    return state / "airflow" / PASSWORDS


def password(state: Path) -> str | None:
    """The user's; None before Airflow was started on a state."""
    return _passwords(password_file(state)).get(USER)


def _passwords(file: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def environment(home: Path, port: int, *, dags: Path, file: Path, master: str) -> Mapping[str, str]:
    """What Airflow and its tasks are started with. No file of settings is written: Airflow makes
    one, for its secrets, and every path in it is overridden here, so that a state can be moved."""
    url = f"http://127.0.0.1:{port}"
    bin_ = Path(sys.executable).parent
    found = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": master}),
        "EVERVIEW_DAGS": str(file),
        "PATH": os.pathsep.join([str(home / "bin"), str(bin_), os.environ.get("PATH", "")]),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "SPT_NOENV": "1",  # a process that sets its title must not lose its mark
    }
    options: dict[str, dict[str, object]] = {
        "api": {"host": "127.0.0.1", "port": port, "base_url": url, "instance_name": "everview"},
        "core": {
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager."
            "SimpleAuthManager",
            "dags_are_paused_at_creation": False,
            "dags_folder": dags,
            "default_pool_task_slot_count": 1,  # one build at a time has the machine
            "execution_api_server_url": f"{url}/execution/",
            "executor": "LocalExecutor",
            "load_examples": False,
            "parallelism": PARALLELISM,
            "plugins_folder": home / "plugins",
            "simple_auth_manager_all_admins": False,
            "simple_auth_manager_passwords_file": home / PASSWORDS,
            "simple_auth_manager_users": f"{USER}:admin",
        },
        "dag_processor": {"print_stats_interval": 0, "refresh_interval": 5},
        # a machine at work makes its processes wait for each other; they ask to for 30 seconds
        "database": {"sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=30"},
        "logging": {
            "base_log_folder": home / "logs",
            "dag_processor_child_process_log_directory": home / "logs" / "dag_processor",
            # these write several lines every five seconds
            "namespace_levels": "airflow.dag_processing=WARNING http.access=WARNING",
        },
    }
    for section, values in options.items():
        found |= {f"AIRFLOW__{section}__{key}".upper(): str(one) for key, one in values.items()}
    return found


def health(port: int, pid: int) -> Health:
    """Whether all of Airflow works, as its monitor tells, and lives since that process started."""
    born = processes.identity(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_WITHIN)
    try:
        connection.request("GET", "/api/v2/monitor/health")
        told = json.loads(connection.getresponse().read(100_000))
    except ConnectionRefusedError:
        return Health(alive=False, ready=False, note=f"nothing listens at port {port}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Health(alive=False, ready=False, note=f"no answer at port {port}: {error}")
    finally:
        connection.close()
    if born is None:
        return Health(alive=False, ready=False, note="has ended")
    lacking = [name for name in COMPONENTS if not _well(told.get(name), name, born.started)]
    good = not lacking
    return Health(alive=good, ready=good, note=f"waits for {', '.join(lacking)}" if lacking else "")


def _well(told: Any, name: str, since: float) -> bool:
    """A heartbeat from before is that of a scheduler that was killed."""
    if not isinstance(told, dict) or told.get("status") != "healthy":
        return False
    beat = told.get(f"latest_{name}_heartbeat")
    return beat is None or datetime.fromisoformat(beat).timestamp() >= since
