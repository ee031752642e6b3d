"""What is registered, compiled again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas import registered
from schemas.errors import VersionOfAnotherRelease
from schemas.ledger.connect import open_ledger
from schemas.ledger.versions import register
from schemas.storage import DataRoot
from tests.events import START
from tests.folding import load


def test_trouble_with_another_stream_is_none_of_a_plan(tmp_path: Path) -> None:
    loaded = load(
        tmp_path / "definitions",
        "CREATE STREAM s (k VARCHAR) WITH (topic = 's');",
        "CREATE STREAM t (k VARCHAR) WITH (topic = 't');",
        "CREATE VIEW v AS SELECT count(*) AS c FROM s;",
    )
    state = tmp_path / "state"
    with open_ledger(state, create=True) as ledger:
        streams, views = registered.rows(loaded, DataRoot(state))
        later = [replace(row, version="other") if row.name == "t" else row for row in streams]
        register(ledger, later, views, START)
        found = registered.plan(ledger, "s")
        assert (found.stream.name, [view.name for view in found.views]) == ("s", ["v"])
        with pytest.raises(VersionOfAnotherRelease):
            registered.plan(ledger, "t")
        with pytest.raises(KeyError):
            registered.plan(ledger, "u")


def test_10_a_view_of_another_release_is_lost_alone(tmp_path: Path) -> None:
    loaded = load(
        tmp_path / "definitions",
        "CREATE STREAM s (k VARCHAR) WITH (topic = 's');",
        "CREATE VIEW v AS SELECT count(*) AS c FROM s;",
        "CREATE VIEW w AS SELECT max(k) AS m FROM s;",
    )
    with open_ledger(tmp_path / "state", create=True) as ledger:
        streams, views = registered.rows(loaded, DataRoot(tmp_path / "state"))
        other = [replace(row, version="other") if row.name == "v" else row for row in views]
        register(ledger, streams, other, START)
        found = registered.plan(ledger, "s")
    assert [view.name for view in found.views] == ["w"]
    ((version, why),) = found.lost
    assert version == "other"
    assert "view 'v' must have version other, as registered" in why
