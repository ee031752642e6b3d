"""Which format a client gets: by `Accept`, or by the short name that an address may have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from serving.envelope import Code, RequestError

JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
CSV_TYPE = "text/csv"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
PARQUET_TYPE = "application/vnd.apache.parquet"

# short name -> media type; in this order where a client does not mind
NAMES: Mapping[str, str] = {
    "json": JSON_TYPE,
    "ndjson": NDJSON_TYPE,
    "csv": CSV_TYPE,
    "arrow": ARROW_TYPE,
    "parquet": PARQUET_TYPE,
}

_WEIGHT = re.compile(r"[01]?\.[0-9]{0,3}|[01]")


def accepted(header: str | None) -> str | None:
    """The media type that an `Accept` header likes best; None if it wants none that there is.

    The highest q wins, then the more exact range, then the earlier one. A range that cannot be read
    counts for nothing. Without a header, or with an empty one: JSON.
    """
    if header is None or not header.strip():
        return JSON_TYPE
    ranges = [("*/*" if kind == "*" else kind, weight) for kind, weight in weighted(header)]
    best: tuple[float, int, int] | None = None
    found = None
    for media_type in NAMES.values():
        fits = [
            (exact, at, weight)
            for at, (kind, weight) in enumerate(ranges)
            if (exact := _exact(kind, media_type))
        ]
        if not fits:
            continue
        # of the ranges that a type is in, the most exact one says what it weighs
        exact, at, weight = max(fits, key=lambda fit: (fit[0], -fit[1]))
        rank = (weight, exact, -at)
        if weight > 0 and (best is None or rank > best):
            best, found = rank, media_type
    return found


def not_acceptable(header: str) -> RequestError:
    """The refusal of a header for which `accepted` found nothing."""
    there = ", ".join(NAMES.values())
    return RequestError(Code.NOT_ACCEPTABLE, f"Accept must name one of {there}; got {header!r}")


def named(name: str) -> str:
    """The media type of a short name, such as csv; RequestError if there is none of that name."""
    if name not in NAMES:
        raise RequestError(Code.BAD_REQUEST, f"format must be one of {list(NAMES)}; got {name!r}")
    return NAMES[name]


def weighted(header: str) -> Iterator[tuple[str, float]]:
    """What a header lists, in lower case, with its weights; without what has one that is none."""
    for part in header.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = "1"
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = value.strip()
                break
        if name and weight != "." and _WEIGHT.fullmatch(weight):
            yield name, min(float(weight), 1.0)


def _exact(kind: str, media_type: str) -> int:
    """How exactly a range names a media type: 3 by its name, 1 by `*/*`, 0 not at all."""
    if kind == media_type:
        return 3
    if kind == media_type.partition("/")[0] + "/*":
        return 2
    return 1 if kind == "*/*" else 0
