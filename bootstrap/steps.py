"""A long step says what it does, that it is still at it, and how long it took."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

# Would make pip, uv or the new environment look at another Python than the one just made.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_USER", "UV_PYTHON", "UV_SYSTEM_PYTHON")
SIGN_OF_LIFE = 10.0  # seconds


class StepFailed(Exception):
    """A command of a step ended with an error; what it said is on the screen already."""


def step(what: str, *commands: Sequence[object], talks: bool = False) -> None:
    """Run commands one after the other; one that `talks` shows its own progress. Raises
    StepFailed."""
    print(f"{what} ...", flush=True)
    start = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment.setdefault("UV_HTTP_TIMEOUT", "300")  # pyspark's source is 450 MB
    for command in commands:
        words = [str(word) for word in command]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment) as process:
            while True:
                try:
                    code = process.wait(SIGN_OF_LIFE)
                    break
                except KeyboardInterrupt:
                    process.terminate()
                    raise
                except subprocess.TimeoutExpired:
                    if not talks:
                        print(f"  still at it, {time.monotonic() - start:.0f} s", flush=True)
        if code != 0:
            text = f"{what}: `{' '.join(words)}` ended with {code}"
            raise StepFailed(text)
    print(f"  done in {time.monotonic() - start:.1f} s", flush=True)
