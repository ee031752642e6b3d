"""The environment in `.venv`: made once, brought up to the locks, left alone while they stand.

Python (any 3.11+) -> .venv -> bootstrap.lock by pip (uv, and what builds source distributions)
-> environment.lock by uv -> this project, editable -> jars, into the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bootstrap.message import lacks_message, venv_lack
from bootstrap.steps import StepFailed, step
from infra.java import java_lack

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "everview.json"
INPUTS = ("bootstrap/bootstrap.lock", "bootstrap/environment.lock", "pyproject.toml")


def make() -> int:
    """Bring everything up to date; gives the exit code."""
    message = lacks_message(java_lack(), venv_lack())
    if message is not None:
        sys.stderr.write(message)
        return 2
    handle = os.open(ROOT, os.O_RDONLY)  # two at a time would install into each other's feet
    try:
        _wait_for(handle)
        _environment()
        _jars()
    except StepFailed as error:
        sys.stderr.write(f"{error}\nRun it again to go on from there.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; run it again to go on from there\n")
        return 130
    finally:
        os.close(handle)
    return 0


def _wait_for(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another set-up of this folder ...", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _environment() -> None:
    """Install what the stamp does not say is installed."""
    made = {"root": str(ROOT), "python": sys.version, "base": sys.base_prefix}
    whole = made | {"inputs": _digest()}
    stamp = _stamp()
    if stamp == whole and PYTHON.exists():
        return
    kept = PYTHON.exists() and all(stamp.get(name) == value for name, value in made.items())
    if not kept:
        base = getattr(sys, "_base_executable", sys.executable)  # .venv cannot make itself anew
        step(
            f"creating .venv with Python {sys.version.split()[0]}",
            [base, "-m", "venv", "--clear", VENV],
        )
    STAMP.write_text(json.dumps(made), encoding="utf-8")
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    exact = ["--require-hashes", "--no-deps", "--only-binary=:all:"]
    lock = ROOT / "bootstrap" / "bootstrap.lock"
    step("installing uv and the build tools", [*pip, "-q", *exact, "-r", lock])
    uv = [VENV / "bin" / "uv", "pip"]
    place = ["--python", PYTHON, "--no-build-isolation"]
    lock = ROOT / "bootstrap" / "environment.lock"
    step(
        "installing the locked packages (about 1 GB; pyspark is built from source)",
        [*uv, "sync", "-q", *place, "--require-hashes", lock],
        [*uv, "install", "-q", *place, "--no-deps", "--editable", ROOT],
    )
    STAMP.write_text(json.dumps(whole), encoding="utf-8")


def _jars() -> None:
    """Check the jars; fetch them where they are missing or damaged."""
    check = [str(PYTHON), "-m", "infra.jars", "--check"]
    if subprocess.run(check, capture_output=True, check=False, cwd=ROOT).returncode != 0:
        step(
            "fetching the jars of Kafka and of Spark's connector (52 files, 54 MB)",
            [PYTHON, "-m", "infra.jars"],
            talks=True,
        )


def _digest() -> str:
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _stamp() -> Mapping[str, object]:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
