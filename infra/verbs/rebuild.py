"""Build batch views anew up to the newest epoch: fold, prove, publish.

From the published batch view and what the master has since; with --full from the whole master.
Streaming is asked to seal first; where none runs, the last sealed epoch is the cut, and that is
said. A build that its proof refuses is not published, and what was served stays.

With --step plan a build of one view is only begun; `python -m batch.run --step ...` goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from batch.run import NOT_RETAINED, RETENTION
from infra import batching, settings
from infra.java import java_lack
from infra.settings import Settings
from schemas.errors import BadUse
from schemas.ledger.connect import open_ledger

NOISE = "WARNING: Using incubator modules"
"""What a JVM says before anybody can tell it to be quiet."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("views", nargs="*", metavar="VIEW")
    parser.add_argument("--all", action="store_true", help="every view")
    parser.add_argument("--full", action="store_true", help="from the whole master")
    help_ = "up to the last sealed epoch that is not after this one"
    parser.add_argument("--until", type=int, metavar="EPOCH", help=help_)
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    help_ = "plan: seal, begin a build, print it; exit code 3 where another build is at work"
    parser.add_argument("--step", choices=("all", "plan"), default="all", help=help_)


def run(found: argparse.Namespace) -> int:
    if bool(found.views) == found.all:
        message = "rebuild must have a VIEW or --all, and not both"
        raise BadUse(message)
    if found.until is not None and found.until < 1:
        message = f"--until must be an epoch, 1 or later; got {found.until}"
        raise BadUse(message)
    only_plan = found.step == "plan"
    if only_plan and len(found.views) != 1:
        message = "--step plan must have one VIEW"
        raise BadUse(message)
    chosen = settings.load(found.project, os.environ)
    with open_ledger(found.state) as ledger:
        rows = batching.chosen(ledger, found.views)
        lack = None if only_plan else java_lack()
        if lack is not None:
            raise BadUse(lack)
        for stream in dict.fromkeys(row.stream for row in rows):
            batching.sealed(ledger, found.state, stream, found.until, _note)
    if not rows:
        print("[]" if found.json else "no view is registered")
        return 0
    names = [row.name for row in rows]
    options = ["--full"] if found.full else []
    options += [] if found.until is None else ["--until", str(found.until)]
    whole = [*command(found.state, chosen), *options]
    if only_plan:
        return _replaced_by([*whole, "--step", "plan", *names])
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryFile("w+") as log:
        whole += names
        with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    told.append(json.loads(line))
                    if not found.json:
                        _show(told[-1])
        log.seek(0)
        rest = [line for line in log.read().splitlines() if NOISE not in line]
    if found.json:
        print(json.dumps(told, indent=1))
    not_retained = any(line.startswith(NOT_RETAINED) for line in rest)
    if process.returncode and (len(told) < len(names) or not_retained):
        _note("\n".join(rest))
    else:
        for line in (line for line in rest if line.startswith(RETENTION)):
            _note(line)
    return 1 if process.returncode else 0


def command(state: Path, chosen: Settings) -> list[str]:
    """`batch.run` with the settings of a project."""
    return [
        *(sys.executable, "-P", "-m", "batch.run", "--state", str(state), "--json"),
        *("--master", chosen.batch.master, "--driver-memory", chosen.batch.driver_memory),
        *batching.flags(chosen),
    ]


def _replaced_by(command: list[str]) -> NoReturn:
    """Goes on as that command: whoever started this one sees its output and its exit code, and
    stops it by a signal to this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _show(told: dict[str, Any]) -> None:
    view = told["view"]
    if "error" in told:
        _note(f"{view}: {told['error']}")
    elif told["publication"] is None:
        print(f"{view}: published up to epoch {told['cut']} already; nothing to build")
    else:
        print(
            f"{view}: publication {told['publication']}, cut {told['cut']}, "
            f"{told['rows']:,} row{'s' * (told['rows'] != 1)} in {told['seconds']} s"
        )
        print(f"    {told['proof']}")
        if told["verdict"] == "repair":
            _note("    REPAIR: what was counted before was wrong, and is corrected:")
            for difference in told["differences"]:
                _note(f"    {difference}")
    sys.stdout.flush()


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
