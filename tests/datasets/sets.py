"""The public data sets that the projects here are about. None of their rows is in this repository:
`EVERVIEW_DATA` names a folder that has them, a folder each, and what a file holds is known by its
sha256 before anything is read from it."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

VARIABLE = "EVERVIEW_DATA"


@dataclass(frozen=True)
class DataSet:
    """A set: its folder's name, where everybody finds it, and the sha256 of each of its files."""

    name: str
    source: str
    files: Mapping[str, str]

    def open(self, scratch: Path) -> Path:
        """The folder to read it from, with what was packed unpacked into `scratch`. Skips where
        there is no data; fails where there is other data."""
        root = os.environ.get(VARIABLE)
        if not root:
            pytest.skip(f"{VARIABLE} names no folder of data sets; {self.name} is {self.source}")
        folder = Path(root) / self.name
        if not folder.is_dir():
            pytest.skip(f"{VARIABLE} has no folder {self.name}; it is {self.source}")
        found = {name: _sha256(folder / name) for name in self.files}
        assert found == self.files, f"{self.name} must be {self.source}"
        packed = [folder / name for name in self.files if name.endswith(".tar.gz")]
        if not packed:
            return folder
        for file in packed:
            with tarfile.open(file) as archive:
                archive.extractall(scratch, filter="data")
        return scratch


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def unzipped(file: Path) -> bytes:
    """What a gzip file holds."""
    with gzip.open(file) as opened:
        return opened.read()


CALLS = DataSet(
    "copenhagen-calls",
    "github:gesiscss/compsoc @365e7acd87508f77e4061340ddb2cfaed3d4b83f data/copenhagen/, of "
    "figshare 10.6084/m9.figshare.7267433",
    {
        "calls.csv": "a4f2078e558a482b6cc7fd2c98c9bf22d14ac9723fb764a00ead940967189c57",
        "genders.csv": "daff3d3232518ed2c662cabae0dd492a6e705056a9bd41e2ef216e8950ba9f9f",
        "fb_friends.csv": "825527f445776d48d095be4d81a1ce7823407c3354d2602af3a6cfae6952c74d",
    },
)
EDITS = DataSet(
    "wikiticker",
    "github:druid-io/druid @161f4dbc0ef5d429d8f16b43e0baf8efbacf5d13 "
    "examples/quickstart/tutorial/wikiticker-2015-09-12-sampled.json.gz",
    {
        "wikiticker-2015-09-12-sampled.json.gz": (
            "7257469b475fb6576328acbc911351b21c896322a96925aec3692427437104e1"
        )
    },
)
BANDIT = DataSet(
    "obd-all",
    "PyPI obp 0.4.1, its wheel's obp/dataset/obd/{random,bts}/all/* packed as a tar.gz",
    {"obd-all.tar.gz": "855b771d250078e70f38fa5edd489a930d46b3c2fe278f542aafb3514b5b0194"},
)
NAB = DataSet(
    "nab-tweets-ads",
    "github:numenta/NAB @ea702d75cc2258d9d7dd35ca8e5e2539d71f3140 data/, labels/ and results/ of "
    "realTweets and realAdExchange packed as a tar.gz",
    {"nab-tweets-ads.tar.gz": "f1f636bc68925546ca28c33251014cf53c5544504ce6df5a5c75589a39e13426"},
)
FLIGHTS = DataSet(
    "vega-flights-3m",
    "npm vega-datasets 3.2.1 data/flights-3m.parquet",
    {"flights-3m.parquet": "dbeb920c90f59b6ccaff823dcc3d08f25a97fa1ce128d93f40be4e931f5900b0"},
)
