"""`Accept-Encoding`: what a client likes best of what there is."""

from __future__ import annotations

from collections.abc import Sequence

ANY = "*"


def tolerated(header: str, offers: Sequence[str]) -> str | None:
    """The offer that a header gives the highest weight, of equals the first offer; None if it
    tolerates none. `*` names what is not named; a weight of 0, or one that is no number, refuses.
    """
    weights = _weighed(header)
    best = max(offers, key=lambda name: weights.get(name, weights.get(ANY, 0.0)))
    return best if weights.get(best, weights.get(ANY, 0.0)) > 0 else None


def _weighed(header: str) -> dict[str, float]:
    """Names in their order, with their weights from 0 to 1; of a name that comes twice the last."""
    found = {}
    for part in header.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if name:
            found[name] = _weight(weight)
    return found


def _weight(text: str) -> float:
    if len(text) > 5 or not text.isascii() or not text.replace(".", "", 1).isdecimal():
        return 0.0
    return min(float(text), 1.0)
