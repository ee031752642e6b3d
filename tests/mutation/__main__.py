"""`python -m tests.mutation [FILE ...] [--part N/M] [--minutes N]`: does a test fail for each small
change?

Each mutant (`mutants.py`) takes the place of its file in a forked process, which judges generated
cases and runs the tests of that part of the project until one fails. Golden texts are not among
them: they fail for any change, and say nothing of its being wrong. Survivors are printed;
`survivors.md` says of those that were left why they are.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType

# not schemas: a child has to import that by itself
import duckdb  # noqa: F401
import pyarrow  # noqa: F401
import pytest
import sqlglot  # noqa: F401

from tests.mutation import mutants
from tests.mutation.mutants import NOTHING, Mutant

FOLDERS = ("schemas/measures", "schemas/compile")
# beside generated cases and the laws of the aggregates of a file
TESTS = {
    "measures": ["tests/language", "tests/laws/test_measures.py"],
    "compile": [
        "tests/language/test_exact.py",
        "tests/engine/test_parse.py",
        "tests/laws/test_law.py",
        "tests/language",
        "tests/engine/test_declarations.py",
        "tests/laws/test_measures.py",
    ],
}
BUNDLES = 5  # of generated cases, before all others
LIMIT = 900  # seconds; whoever takes longer is as good as found out


def _put(mutant: Mutant) -> None:
    """Let a mutant be what its file is. A file of measures, which nothing knows but by ALL, is
    changed where it is; all others are imported in this process for the first time."""
    if mutant.path.parent.name != "measures" or mutant.path.stem in ("measure", "__init__"):
        sys.meta_path.insert(0, Instead(mutant))
        return
    from schemas import measures

    module = getattr(measures, mutant.path.stem)
    Instead(mutant).exec_module(module)
    measures.ALL.update({aggregate.name: aggregate for aggregate in module.ALL})


def _laws(mutant: Mutant) -> bool:
    """Whether an aggregate of a file of measures breaks one."""
    from schemas import measures
    from tests.laws import test_measures

    own = getattr(measures, mutant.path.stem, None)
    laws = test_measures.Laws()
    for aggregate in getattr(own, "ALL", ()):
        test_measures.test_laws(laws, aggregate.name)
    return False


class Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from its mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = ".".join(mutant.path.with_suffix("").parts).removesuffix(".__init__")
        self.mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of that module, None of all others."""
        del path, target
        if fullname != self.name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self.mutant.path))

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed module."""
        tree = mutants.changed(self.mutant)
        exec(compile(tree, str(self.mutant.path), "exec"), module.__dict__)


def main() -> int:
    """Run the mutants; exit code 1 where one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    files = given.files or [each for name in FOLDERS for each in sorted(Path(name).glob("*.py"))]
    listed = [mutant for path in files for mutant in mutants.of(path)]
    random.Random(1).shuffle(listed)  # so that a run that is cut short has seen a bit of all
    _say(f"{len(listed)} mutants of {len(files)} files")
    if all(path.parent.name == "measures" for path in files):
        # no connection is open when a process forks
        from tests.generated import running  # noqa: F401
        from tests.laws import test_measures  # noqa: F401
    for path in {each.parent: each for each in files}.values():
        # what is not changed passes: else every mutant would seem to be found out
        _, passed = _run([Mutant(path, NOTHING, 0, "unchanged")], 1, monotonic() + LIMIT)
        assert passed, f"the tests of {path.parent} must pass on what is there"
    killed, survivors = _run(listed, given.processes, monotonic() + 60 * given.minutes)
    for mutant in sorted(survivors, key=lambda each: (each.path, each.line)):
        _say(f"survives: {_called(mutant)}")
    _say(f"{killed} of {killed + len(survivors)} were found out, of {len(listed)} mutants")
    return 1 if survivors else 0


def _run(listed: Sequence[Mutant], processes: int, until: float) -> tuple[int, list[Mutant]]:
    left, running = list(listed), dict[int, tuple[Mutant, float]]()
    killed, survivors = 0, list[Mutant]()
    while running or (left and monotonic() < until):
        while left and len(running) < processes and monotonic() < until:
            mutant = left.pop()
            running[_started(mutant)] = mutant, monotonic() + LIMIT
        sleep(0.05)
        for pid, (mutant, end) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done and monotonic() < end:
                continue
            if not done:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            del running[pid]
            survives = bool(done) and os.waitstatus_to_exitcode(status) == 0
            killed += not survives
            survivors += [mutant] if survives else []
            _say(f"{'SURVIVES' if survives else 'found out'}  {_called(mutant)}")
    return killed, survivors


def _started(mutant: Mutant) -> int:
    """The process that runs the tests of a mutant; its exit code is 0 where all pass."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with suppress(BaseException):
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        _put(mutant)
        code = int(_fails(mutant))
    os._exit(code)


def _fails(mutant: Mutant) -> bool:
    from tests.generated import running

    if running.run(7, range(BUNDLES)).failing or _laws(mutant):
        return True
    common = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "slow or not slow"]
    # modules that were imported before pytest rewrites them
    common += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return pytest.main([*common, *TESTS[mutant.path.parent.name]]) != 0


def _called(mutant: Mutant) -> str:
    return f"{mutant.path}:{mutant.line} [{mutant.number}] {mutant.text[:150]}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
