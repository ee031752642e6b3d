"""What goes to spark-submit: everview as a zip, and nothing of it on the path."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pyspark

from tests.engine.conftest import ROOT

COMMAND = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
MAIN = str(ROOT / "infra" / "spark" / "main.py")


def everview_zip(folder: Path, layer: str) -> Path:
    """What the wheel holds of a Spark layer, as `--py-files` wants it."""
    target = folder / "everview.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for package in ("schemas", layer):
            for file in sorted((ROOT / package).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    return target


def environment() -> dict[str, str]:
    """That of a machine whose Python has what everview needs, but not everview."""
    return {**os.environ, "PYTHONPATH": "", "PYSPARK_PYTHON": sys.executable}
