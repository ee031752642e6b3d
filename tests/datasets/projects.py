"""What the projects here are fed: a set of data as records, and as the files of references."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from infra.records import Shape, Source
from tests.datasets import sets
from tests.datasets.sets import DataSet

Estimate = Literal["distinct", "quantile", "double"]
UNTIL = "2001-01-15"


@dataclass(frozen=True)
class Sent:
    """The records of a project, how often each of the first `again` is sent once more, and the
    files of its references."""

    records: list[bytes]
    files: Mapping[str, bytes] = field(default_factory=dict)
    again: int = 0


@dataclass(frozen=True)
class Project:
    """A project: a folder here. `estimates` says which columns of a view are about what the query
    by hand has exactly; `variables` are set for that query, beside `folder`."""

    name: str
    data: DataSet
    read: Callable[[Path], Sent]
    estimates: Mapping[str, Mapping[str, Estimate]]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return Path(__file__).parent / self.name

    @property
    def definitions(self) -> str:
        files = sorted(self.folder.glob("*.sql"))
        return "\n".join(file.read_text(encoding="utf-8") for file in files)


def calls(folder: Path) -> Sent:
    """Each line as it is; the headers of the others begin with a mark of their own."""
    _, *lines = (folder / "calls.csv").read_bytes().splitlines()
    files = {
        "students.csv": _headed(folder / "genders.csv", b"student,female"),
        "friends.csv": _headed(folder / "fb_friends.csv", b"low,high"),
    }
    return Sent(lines, files, again=500)


def edits(folder: Path) -> Sent:
    (name,) = sets.EDITS.files
    return Sent(sets.unzipped(folder / name).splitlines())


def impressions(folder: Path) -> Sent:
    """Objects, as `everview produce` makes them of CSV, with the policy in front and without the 80
    affinities."""
    shape = Shape("json", None, (("item_id", "UTINYINT"), ("position", "TINYINT"),
        ("click", "TINYINT"), ("propensity_score", "DECIMAL(21,20)")))  # fmt: skip
    records = []
    for policy in ("random", "bts"):
        begun = f'{{"policy":"{policy}",'.encode()
        source = Source(str(folder / "obd" / policy / "all" / "all.csv"), shape)
        objects = (line.partition(b',"user-item_affinity_0"')[0] for _, line in source.records())
        records += [begun + line[1:] + b"}" for line in objects]
    items = folder / "obd" / "random" / "all" / "item_context.csv"
    shelf = folder / "shelf.parquet"
    duckdb.execute(f"COPY (FROM read_csv('{items}')) TO '{shelf}' (FORMAT parquet)")
    files = {"items.csv": items.read_bytes(), "shelf.parquet": shelf.read_bytes()}
    return Sent(records, files)


def tweets(folder: Path) -> Sent:
    records, judged = [], ["series,probation"]
    for name, lines in _series(folder / "results" / "windowedGaussian" / "realTweets"):
        series = name.rpartition("_")[2]
        records += [b"%s,%d,%s" % (series.encode(), at, line) for at, line in enumerate(lines, 1)]
        judged.append(f"{series},{min(750, int(0.15 * len(lines)))}")
    windows = ["series,valid_from,until"]
    labels = (folder / "labels" / "combined_windows.json").read_text(encoding="utf-8")
    for name, found in json.loads(labels).items():
        if name.startswith("realTweets/"):
            series = Path(name).stem.rpartition("_")[2]
            windows += [f"{series},{begun},{until}" for begun, until in found]
    files = {"detectors.csv": "\n".join(judged), "windows.csv": "\n".join(windows)}
    return Sent(records, {name: text.encode() for name, text in files.items()}, again=1_000)


def prices(folder: Path) -> Sent:
    return Sent([
        b"%s,%s" % (name.removesuffix("_results").replace("_", "-").encode(), line)
        for name, lines in _series(folder / "data" / "realAdExchange")
        for line in lines
    ])  # fmt: skip


def departures(folder: Path) -> Sent:
    return Sent(flights(folder, UNTIL))


def flights(folder: Path, until: str) -> list[bytes]:
    """An object for each flight before a moment."""
    (name,) = sets.FLIGHTS.files
    spelled = """json_object('ms', epoch_ms(date), 'delay', delay, 'distance', distance,
        'origin', origin, 'destination', destination)"""
    source = f"read_parquet('{folder / name}') WHERE date < TIMESTAMP '{until}'"
    rows = duckdb.execute(f"SELECT encode({spelled}::VARCHAR) FROM {source}").fetchall()
    return [line for (line,) in rows]


def _headed(file: Path, header: bytes) -> bytes:
    return header + b"\n" + file.read_bytes().partition(b"\n")[2]


def _series(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """The name and the lines of each file, without its header."""
    for file in sorted(folder.glob("*.csv")):
        yield file.stem, file.read_bytes().splitlines()[1:]


ALL = (
    Project(
        "calls",
        sets.CALLS,
        calls,
        {
            "of_friends": {"callers": "distinct"},
            "all_calls": {"callers": "distinct", "seconds": "quantile"},
            "callers": {"spread": "double"},
        },
    ),
    Project(
        "edits",
        sets.EDITS,
        edits,
        {
            "namespaces": {"variance": "double", "deltas": "double"},
            "of_countries": {"users": "distinct"},
            "all_edits": {
                "pages": "distinct",
                "known_users": "distinct",
                "p05": "quantile",
                "p95": "quantile",
            },
        },
    ),
    Project(
        "impressions",
        sets.BANDIT,
        impressions,
        {
            "segments": {"items": "distinct", "median": "quantile"},
            "worth": {"if_random": "double", "spread": "double"},
        },
    ),
    Project(
        "tweets",
        sets.NAB,
        tweets,
        {"levels": {"quartiles": "quantile", "peak": "quantile", "different": "distinct"}},
    ),
    Project(
        "prices",
        sets.NAB,
        prices,
        {"in_doubles": {"variance": "double", "middle": "double"}},
    ),
    Project(
        "departures",
        sets.FLIGHTS,
        departures,
        {
            "airports": {"destinations": "distinct", "delays": "quantile", "miles": "quantile"},
            "airport_hours": {"delays": "double", "spread": "double"},
        },
        {"until": UNTIL},
    ),
)
