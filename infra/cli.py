"""The `everview` command: arguments, errors as plain lines, exit codes.

0 done, 1 the answer is no or something does not work, 2 bad use or bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from schemas.errors import (
    BackupRefused,
    BadUse,
    DefinitionError,
    DeployRefused,
    EverviewError,
    FailpointInvalid,
    PublicationUnknown,
    RestoreRefused,
    StreamUnknown,
    ViewUnknown,
)

DONE, NO, BAD_USE, INTERRUPTED = 0, 1, 2, 130

VERBS = {
    "init": "make a new project: a small example to run and to change",
    "up": "start Kafka, streaming, serving and Airflow, and keep them running",
    "down": "stop a running stack",
    "status": "what runs, and where each stream stands",
    "check": "check every definition of the project; nothing is changed",
    "infer": "draft the stream that a file could be",
    "try": "answer a view from files, without a stack",
    "schemas": "what producers must send and clients get, as JSON Schema or Arrow",
    "deploy": "register the project's definitions",
    "produce": "send the events of files to a stream's topic",
    "sql": "run a query, or open a prompt",
    "token": "let somebody ask: a new token",
    "backup": "copy the state while it runs",
    "restore": "make a state of a backup",
    "scrub": "read every file, name what is damaged, repair what can be",
    "ledger": "restore: make a ledger again that is lost or damaged",
    "accept-loss": "let a stream go on without offsets that Kafka lost",
    "rejects": "events that do not fit their stream: look at them, and try them again",
    "rebuild": "build batch views anew, prove and publish them",
    "retain": "let go of events that are older than they are to be kept",
    "verify": "count anew from the master and compare with what is served",
    "versions": "what was published of a view",
    "rollback": "serve an older publication of a view again",
}

BAD_INPUT = (
    BackupRefused,
    BadUse,
    DefinitionError,
    DeployRefused,
    FailpointInvalid,
    PublicationUnknown,
    RestoreRefused,
    StreamUnknown,
    ViewUnknown,
)
"""Errors of what was given (exit code 2); every other one is about what is there (1)."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # refuses to go on if failpoints are set outside of tests
        importlib.import_module("schemas.failpoints")
        return _run(arguments)
    except EverviewError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USE if isinstance(error, BAD_INPUT) else NO
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(f"{overview()}\n")
        return DONE if arguments else BAD_USE
    if arguments[0] == "--version":
        sys.stdout.write(f"everview {release()}\n")
        return DONE
    verb = arguments[0]
    if verb not in VERBS:
        raise BadUse(_unknown(verb))
    taken = keyword.iskeyword(verb) or verb in sys.stdlib_module_names
    name = verb.replace("-", "_") + "_" * taken
    module = importlib.import_module(f"infra.verbs.{name}")
    parser = argparse.ArgumentParser(prog=f"everview {verb}", description=module.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.arguments(parser)
    if verb == "init":  # there is no project yet
        return int(module.run(parser.parse_args(arguments[1:])))
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="default: .")
    help_ = "default: .everview in the project"
    parser.add_argument("--state", type=Path, metavar="DIR", help=help_)
    found = parser.parse_args(arguments[1:])
    found.project = found.project.absolute()
    found.state = (found.state or found.project / ".everview").absolute()
    return int(module.run(found))


def overview() -> str:
    verbs = "\n".join(f"  {name:<11} {text}" for name, text in VERBS.items())
    return (
        "usage: everview VERB [--project DIR] [--state DIR] ...\n\n"
        f"{verbs}\n\n"
        "everview VERB --help tells more; everview --version tells the release."
    )


def release() -> str:
    """The release that is installed; a source tree that was not installed has none."""
    try:
        return metadata.version("everview")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _unknown(verb: str) -> str:
    close = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"verb must be one of {', '.join(VERBS)}; got {verb!r}{hint}"
