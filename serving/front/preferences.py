"""`Accept-Encoding`: what a client likes best of what there is."""

from __future__ import annotations

from collections.abc import Sequence

from serving.formats.media import weighted

ANY = "*"


def tolerated(header: str, offers: Sequence[str]) -> str | None:
    """The offer that a header gives the highest weight, of equals the first offer; None if it
    tolerates none. `*` names what is not named; a weight of 0 refuses. What has a weight that is no
    number counts as not named, as in `Accept`. Of a name that comes twice the last counts."""
    weights = dict(weighted(header))
    best = max(offers, key=lambda name: weights.get(name, weights.get(ANY, 0.0)))
    return best if weights.get(best, weights.get(ANY, 0.0)) > 0 else None
