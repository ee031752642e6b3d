"""`python -m tests.generated [--cases N] [--seed S]`: very many cases, on all cores.

The cases are judged in chunks, each in a process of its own, and what a chunk comes to is a file: a
run that was stopped goes on where it was, and a chunk that dies takes nothing else with it. Each
case that fails is made small and written as a program beside the chunks. Exit code 1 where there
is one, or where a chunk died. EVERVIEW_CASES and EVERVIEW_SEED say the same as the arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from time import monotonic

from tests.generated import running, script
from tests.generated.running import Tally
from tests.generated.shrinking import shrunk

BUNDLES = 20  # of a chunk
LIMIT = 3600  # seconds that a chunk may take


def main() -> int:
    """Judge them, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.generated", description=__doc__)
    environment = os.environ
    cases = int(environment.get("EVERVIEW_CASES", "100000"))
    seed = int(environment.get("EVERVIEW_SEED", "1"))
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--folder", type=Path, help="default: build/generated/<seed>")
    parser.add_argument("--chunk", type=int, help="judge this chunk alone")
    given = parser.parse_args()
    folder = given.folder or Path("build/generated") / str(given.seed)
    folder.mkdir(parents=True, exist_ok=True)
    if given.chunk is not None:
        _chunk(folder, given.seed, given.chunk)
        return 0
    chunks = -(-given.cases // (BUNDLES * running.CASES))
    _say(f"seed {given.seed}: {given.cases} cases in {chunks} chunks, in {folder}")
    start = monotonic()
    died = list(_judge(folder, given.seed, chunks))
    tally = _sum(folder, chunks)
    _say(f"seed {given.seed}, {monotonic() - start:.0f} s: {tally.text()}")
    scripts = sorted(folder.glob("counterexample_*.py"))
    for path in scripts:
        _say(f"differs: python {path}")
    for number in died:
        _say(f"died: chunk {number}, see {folder / f'{number}.log'}; to repeat: --chunk {number}")
    return 1 if scripts or died else 0


def _judge(folder: Path, seed: int, chunks: int) -> Iterator[int]:
    """Run the chunks that have no file yet; gives those that died."""
    left = [number for number in range(chunks) if not (folder / f"{number}.json").exists()]
    start, count = monotonic(), len(left)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {pool.submit(_child, folder, seed, number): number for number in left}
        for done, future in enumerate(as_completed(futures), 1):
            if not future.result():
                yield futures[future]
            if done % 20 == 0 or done == count:
                _say(f"{done} of {count} chunks after {monotonic() - start:.0f} s")


def _child(folder: Path, seed: int, number: int) -> bool:
    """Whether a chunk came to an end in a process of its own."""
    asked = ["--seed", str(seed), "--folder", str(folder), "--chunk", str(number)]
    command = [sys.executable, "-m", "tests.generated", *asked]
    with (folder / f"{number}.log").open("w") as log:
        try:
            subprocess.run(command, stdout=log, stderr=log, timeout=LIMIT, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
    (folder / f"{number}.log").unlink()
    return True


def _chunk(folder: Path, seed: int, number: int) -> None:
    tally = running.run(seed, range(number * BUNDLES, (number + 1) * BUNDLES))
    for at, failing in enumerate(tally.failing):
        found = shrunk(failing) if at < 3 else failing
        path = folder / f"counterexample_{number}_{at}.py"
        path.write_text(script.write(found, f"seed {seed}, chunk {number}, view {found.view.name}"))
    told = [tally.verdicts, tally.forms, tally.compared, tally.seconds]
    part = folder / f"{number}.part"
    part.write_text(json.dumps(told))
    part.rename(folder / f"{number}.json")


def _sum(folder: Path, chunks: int) -> Tally:
    total = Tally()
    for number in range(chunks):
        path = folder / f"{number}.json"
        if path.exists():
            *counts, seconds = json.loads(path.read_text())
            verdicts, forms, compared = map(Counter[str], counts)
            total.add(Tally(verdicts, forms, compared, seconds))
    return total


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
