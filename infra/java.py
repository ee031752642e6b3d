"""The Java that Kafka and Spark run on. Needs the standard library only: `bootstrap` asks it too,
before anything is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

REQUIRED = 17


def java_command() -> Path | None:
    """The `java` that Spark's own scripts start: JAVA_HOME's, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    return Path(found) if found else None


def java_lack() -> str | None:
    """What is wrong with this machine's Java, or None where it is good."""
    command = java_command()
    if command is None:
        home = os.environ.get("JAVA_HOME")
        place = "there is no `java` on PATH"
        if home:
            place = f"JAVA_HOME={home} holds no bin/java: unset it, or let it name a Java"
        return f"Java must be {REQUIRED} or newer; {place}"
    try:
        told = subprocess.run(
            [command, "-version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Java must be {REQUIRED} or newer; {command} does not start: {error}"
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if told.returncode != 0 or version is None:  # macOS has a `java` that only asks for a Java
        return f"Java must be {REQUIRED} or newer; {command} starts no Java"
    if int(version[1]) < REQUIRED:
        return f"Java must be {REQUIRED} or newer; {command} is Java {version[1]}"
    return None
