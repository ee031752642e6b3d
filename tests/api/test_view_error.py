"""An error in a view's own expression stops that version alone; a fixed definition, deployed and
rebuilt, brings the view back, while the stream and the other views go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import cli
from schemas.errors import VersionSuspended
from schemas.ledger.versions import views
from tests.api.world import Served
from tests.engine.live import Live
from tests.engine.test_declarations import BY_KEY, NARROW, hit, sent

FAILING = "CREATE VIEW codes AS SELECT count(*) AS hits, sum(CAST(k AS INTEGER)) AS c FROM hits;\n"
FIXED = FAILING.replace("CAST", "TRY_CAST")


def test_a_view_that_fails_is_shown_and_brought_back(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live, served = Live(state), Served(state)
    live.declare(NARROW, BY_KEY, FAILING)
    live.start()
    live.epoch(*sent([hit(1, n=1, k="4")]))
    live.seal()
    live.epoch(*sent([hit(2, n=1, k="5"), hit(3, n=1, k="secret")]))
    live.epoch(*sent([hit(4, n=1, k="6")]))
    served.catch_up()

    # shown, with the epoch and the event, without a value of it
    degraded = served.degraded("codes")
    assert degraded is not None
    assert degraded.startswith("suspended at epoch 2: Conversion Error: Could not convert string")
    assert degraded.endswith("(from partition 0, offset 2 on)")
    assert "secret" not in degraded
    assert served.rows("FROM codes") == [(1, 4)]
    states = served.rows("SELECT view, state FROM everview.versions ORDER BY view")
    assert states == [("by_key", "served"), ("codes", "suspended")]
    assert cli.main(["status", "--state", str(state), "--project", str(state)]) in (0, 1)
    assert "suspended at epoch 2: Conversion Error" in capsys.readouterr().out
    live.seal()
    with pytest.raises(VersionSuspended):
        live.build("codes")

    # the others never noticed
    assert served.degraded("by_key") is None
    assert served.rows("SELECT sum(hits) FROM by_key") == [(4,)]

    live.declare(NARROW, BY_KEY, FIXED)
    live.epoch(*sent([hit(5, n=1, k="7")]))
    served.catch_up()
    assert served.rows("FROM codes") == [(1, 4)]
    assert served.degraded("codes") is not None
    assert served.rows("SELECT sum(hits) FROM by_key") == [(5,)]

    live.seal()
    live.build("codes")
    live.epoch(*sent([hit(6, n=1, k="8")]))
    served.catch_up()
    assert served.degraded("codes") is None
    assert served.rows("FROM codes") == [(6, 4 + 5 + 6 + 7 + 8)]
    assert served.rows("SELECT sum(hits) FROM by_key") == [(6,)]
    assert {row.name: row.suspended_epoch for row in views(live.ledger)} == {
        "by_key": None,
        "codes": None,
    }
    assert live.verified() == {"by_key": 0, "codes": 0}
    live.ledger.close()
