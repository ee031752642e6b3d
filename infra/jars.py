"""The jars of Kafka's broker and of Spark's Kafka connector: `python -m infra.jars` fetches them.

Ivy lies inside pyspark and needs only Java. What it may fetch is fixed twice: by coordinates here,
by sha256 in `jars.lock` beside this file. The broker's client is newer than Spark's and must never
meet it on one class path: hence two folders.

    <cache>/ivy/                      Ivy's own downloads
    <cache>/jars/<key>/broker/        the whole class path of the broker
                      /connector/     what Spark lacks to read Kafka
                                      (key: the start of jars.lock's sha256)

<cache> is EVERVIEW_CACHE, else XDG_CACHE_HOME/everview, else ~/.cache/everview.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from infra.java import java_command, java_lack
from schemas.errors import JarsNotFetched, JarsNotReady

BROKER = "broker"
CONNECTOR = "connector"


@dataclass(frozen=True)
class Coordinates:
    """A module in a Maven repository."""

    group: str
    artifact: str
    revision: str


@dataclass(frozen=True)
class JarSet:
    """One folder of jars; `whole` where the modules bring those that they depend on."""

    folder: str
    whole: bool
    modules: tuple[Coordinates, ...]


SETS = (
    JarSet(
        BROKER,
        True,
        (
            Coordinates("org.apache.kafka", "kafka_2.13", "4.3.1"),
            Coordinates("org.slf4j", "slf4j-reload4j", "1.7.36"),  # without it, no log
        ),
    ),
    JarSet(  # what else these depend on, pyspark has
        CONNECTOR,
        False,
        (
            Coordinates("org.apache.spark", "spark-sql-kafka-0-10_2.13", "4.2.0"),
            Coordinates("org.apache.spark", "spark-token-provider-kafka-0-10_2.13", "4.2.0"),
            Coordinates("org.apache.kafka", "kafka-clients", "3.9.2"),
            Coordinates("org.apache.commons", "commons-pool2", "2.13.1"),
            Coordinates("com.google.code.findbugs", "jsr305", "3.0.0"),
        ),
    ),
)

Report = Callable[[str], None]


def broker_classpath() -> Path:
    """The folder whose jars are the broker's class path (`<folder>/*`), checked by sha256.

    Raises JarsNotReady.
    """
    return _checked(BROKER)


def connector_jars() -> list[Path]:
    """The jars for `spark.jars`, checked by sha256. Raises JarsNotReady."""
    return sorted(_checked(CONNECTOR).iterdir())


def cache() -> Path:
    """The user's cache folder; made by whoever writes to it first."""
    own = os.environ.get("EVERVIEW_CACHE")
    if own:
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "everview"


def locked() -> dict[str, str]:
    """`broker/<jar>` or `connector/<jar>` -> sha256, as `jars.lock` has it."""
    pairs = (line.split() for line in _lock_text().splitlines() if line)
    return {name: digest for digest, name in pairs}


def ensure(report: Report) -> Path:
    """Check the jars and, where they are missing or damaged, fetch them; gives their folder."""
    folder, expected, ivy = _folder(), locked(), cache() / "ivy"
    with _alone(folder.parent):
        if _difference(folder, expected) is None:
            return folder
        for left in folder.parent.glob(".new-*"):  # of a process that was killed
            shutil.rmtree(left)
        for emptied in (False, True):  # a damaged download would stay in Ivy's folder for good
            if emptied:
                shutil.rmtree(ivy, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as name:
                fresh = Path(name, "jars")
                _fetch(fresh, ivy, report)
                difference = _difference(fresh, expected)
                if difference is None:
                    if folder.exists():
                        folder.rename(Path(name, "old"))
                    fresh.rename(folder)
                    return folder
    text = f"the fetched jars must be those of jars.lock; got: {difference}"
    raise JarsNotFetched(text)


def lock(report: Report) -> str:
    """The text of a new `jars.lock` for the coordinates above, from a fresh download."""
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name, "jars")
        _fetch(fresh, Path(name, "ivy"), report)
        return "".join(f"{_sha256(fresh / jar)}  {jar}\n" for jar in _names(fresh))


def _lock_text() -> str:
    return resources.files("infra").joinpath("jars.lock").read_text(encoding="utf-8")


def _folder() -> Path:
    key = hashlib.sha256(_lock_text().encode()).hexdigest()[:16]
    return cache() / "jars" / key


def _checked(part: str) -> Path:
    folder = _folder() / part
    prefix = f"{part}/"
    expected = {n.removeprefix(prefix): d for n, d in locked().items() if n.startswith(prefix)}
    difference = _difference(folder, expected)
    if difference is not None:
        raise JarsNotReady(str(folder), difference)
    return folder


def _difference(folder: Path, expected: Mapping[str, str]) -> str | None:
    """The first way in which a folder is not what the lock says, or None."""
    if not folder.is_dir():
        return "no such folder"
    found = _names(folder)
    for name in sorted(expected.keys() | set(found)):
        if name not in expected:
            return f"{name} is not in jars.lock"
        if name not in found:
            return f"{name} is missing"
        digest = _sha256(folder / name)
        if digest != expected[name]:
            return f"{name} must have sha256 {expected[name]}, it has {digest}"
    return None


def _names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fetches into a cache; the others wait, then find it done."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _fetch(target: Path, downloads: Path, report: Report) -> None:
    """Let Ivy fill `target` with a folder for each of SETS."""
    lack = java_lack()
    if lack is not None:
        raise JarsNotFetched(lack)
    start = [str(java_command()), f"-Divy.default.ivy.user.dir={downloads}", "-jar", str(_ivy())]
    start += ["-cache", str(downloads / "cache"), "-confs", "default"]
    settings = os.environ.get("EVERVIEW_IVY_SETTINGS")  # a mirror, in Ivy's own words
    if settings:
        start += ["-settings", settings]
    with tempfile.TemporaryDirectory() as name:
        for jars in SETS:
            description = Path(name, f"{jars.folder}.xml")
            description.write_text(_description(jars), encoding="utf-8")
            pattern = f"{target}/{jars.folder}/[artifact]-[revision].[ext]"
            command = [*start, "-ivy", str(description), "-retrieve", pattern]
            _run(command, jars.folder, report)


def _ivy() -> Path:
    spark = importlib.util.find_spec("pyspark")
    places = spark.submodule_search_locations if spark is not None else None
    for place in places or ():
        for jar in sorted(Path(place, "jars").glob("ivy-*.jar")):
            return jar
    text = "pyspark must be installed, its Ivy fetches the jars; got none. Install everview anew"
    raise JarsNotFetched(text)


def _description(jars: JarSet) -> str:
    conf = "default->default" if jars.whole else "default->master"
    wanted = "".join(
        f'<dependency org="{c.group}" name="{c.artifact}" rev="{c.revision}" conf="{conf}"/>'
        for c in jars.modules
    )
    return (
        f'<ivy-module version="2.0"><info organisation="everview" module="{jars.folder}"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{wanted}</dependencies></ivy-module>"
    )


def _run(command: Sequence[str], part: str, report: Report) -> None:
    lines: list[str] = []
    found = fetched = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            found += line.startswith("\tfound ")
            fetched += "[SUCCESSFUL ]" in line
            report(f"{part}: {found} modules found, {fetched} jars fetched")
    if process.returncode != 0:
        noise = ("\t|", "\t-", "..")
        told = [line for line in lines if line.strip() and not line.startswith(noise)]
        last = "\n  ".join(told[-15:])
        text = (
            f"Ivy must fetch the {part}'s jars; it ended with {process.returncode}:\n  {last}\n"
            "Check the network; behind a proxy set JAVA_TOOL_OPTIONS="
            "'-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT', for a mirror set "
            "EVERVIEW_IVY_SETTINGS to a file of Ivy settings. Then run it again"
        )
        raise JarsNotFetched(text)


def _progress() -> Report:
    """Reports on stderr: in place on a terminal, else every five seconds."""
    terminal = sys.stderr.isatty()
    start = shown = time.monotonic()

    def report(text: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if terminal:
            sys.stderr.write(f"\r\x1b[K      {text}, {now - start:.0f} s")
        elif now - shown >= 5:
            shown = now
            sys.stderr.write(f"      {text}, {now - start:.0f} s\n")
        sys.stderr.flush()

    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.jars", description="check the jars, fetch what is missing or damaged"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="only check, fetch nothing")
    way.add_argument("--lock", action="store_true", help="print a jars.lock of a fresh download")
    arguments = parser.parse_args()
    if arguments.check:
        difference = _difference(_folder(), locked())
        sys.stdout.write(f"{_folder()}: {difference or 'as locked'}\n")
        return 0 if difference is None else 1
    report = _progress()
    try:
        told = lock(report) if arguments.lock else f"{ensure(report)}\n"
    except JarsNotFetched as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    sys.stdout.write(told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
