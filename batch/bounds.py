"""From when on a view is to keep its groups, by the settings."""

from __future__ import annotations

from datetime import datetime

from batch.compiled import Compiled
from batch.settings import Settings
from schemas.ages import key_of
from schemas.bound import Bound
from schemas.errors import BadUse
from schemas.ledger import bounds, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.copies import back_up


def wanted(
    settings: Settings, ledger: Ledger, definitions: Compiled, view: str, now: datetime
) -> Bound | None:
    """The bound of a view now, by the version that is built next; None: it keeps every group.
    Raises BadUse where it is not said by which key."""
    kept = settings.keep.get(view.lower())
    row = next((each for each in versions.views(ledger) if each.name == view), None)
    if kept is None or row is None:
        return None
    _, compiled = definitions.of(view, row.wanted or row.version)
    key, problem = key_of(compiled.time_keys, kept.key)
    if key is None:
        message = f"view {view!r} cannot keep its groups by age: {problem}"
        raise BadUse(message)
    return Bound(key, now - kept.age)


def move(
    settings: Settings, ledger: Ledger, definitions: Compiled, view: str, now: datetime
) -> Bound | None:
    """Record it; what was moved, None where nothing was."""
    bound = wanted(settings, ledger, definitions, view, now)
    if bound is None or not bounds.move_bound(ledger, view, bound, now):
        return None
    back_up(settings.state)  # no file tells of it
    return bound
