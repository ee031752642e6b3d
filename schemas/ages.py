"""How long detail is kept: an age for every stream, others for some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

FLAG = "--retain"
HELP = "how long the master is kept: SECONDS, or STREAM=SECONDS; again for another stream"
LEAST_SPAN = timedelta(hours=1)
PARTS = 10


@dataclass(frozen=True)
class Ages:
    """`every` is of the streams that `streams` (by lower-case name) lacks; None: for ever."""

    every: timedelta | None = None
    streams: Mapping[str, timedelta | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {name.lower(): age for name, age in self.streams.items()}
        object.__setattr__(self, "streams", MappingProxyType(named))

    def of(self, stream: str) -> timedelta | None:
        """How old the master of a stream gets; None: it is kept for ever."""
        return self.streams.get(stream.lower(), self.every)

    def span(self, stream: str) -> timedelta | None:
        """How long a sealed range of a stream may last, so that boundaries are there to retain at;
        None: as long as it gets."""
        age = self.of(stream)
        return None if age is None else max(age / PARTS, LEAST_SPAN)

    def flags(self) -> list[str]:
        """As a process of ours is told; `parse` reads it."""
        told = [] if self.every is None else [_seconds(self.every)]
        for name, age in sorted(self.streams.items()):
            told.append(f"{name}={'' if age is None else _seconds(age)}")
        return [each for text in told for each in (FLAG, text)]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Ages:
        """Of SECONDS and STREAM=SECONDS, which is for ever without SECONDS. Raises ValueError."""
        every: timedelta | None = None
        streams: dict[str, timedelta | None] = {}
        for text in texts:
            name, named, seconds = text.rpartition("=")
            age = timedelta(seconds=float(seconds)) if seconds or not named else None
            if named:
                streams[name] = age
            else:
                every = age
        return cls(every, streams)

    def __reduce__(
        self,
    ) -> tuple[type[Ages], tuple[timedelta | None, dict[str, timedelta | None]]]:
        return Ages, (self.every, dict(self.streams))


def _seconds(age: timedelta) -> str:
    return str(int(age.total_seconds()))


KEEP_FLAG = "--keep"
KEEP_HELP = "how long a view keeps its groups: VIEW=SECONDS or VIEW=SECONDS:KEY; again for another"


@dataclass(frozen=True)
class KeptFor:
    """How long a view keeps its groups, by a key of it that is a time; None: by the only one."""

    age: timedelta
    key: str | None = None


def keep_flags(keep: Mapping[str, KeptFor]) -> list[str]:
    """As a process of ours is told; `parse_keep` reads it."""
    told = [
        f"{view}={_seconds(each.age)}{f':{each.key}' if each.key else ''}"
        for view, each in sorted(keep.items())
    ]
    return [each for text in told for each in (KEEP_FLAG, text)]


def parse_keep(texts: Iterable[str]) -> dict[str, KeptFor]:
    """By lower-case names of views. Raises ValueError."""
    found = {}
    for text in texts:
        view, _, rest = text.partition("=")
        seconds, _, key = rest.partition(":")
        found[view.lower()] = KeptFor(timedelta(seconds=float(seconds)), key or None)
    return found


def key_of(keys: Sequence[str], given: str | None) -> tuple[str | None, str]:
    """The key by which a view with these keys that are times keeps its groups; else why not."""
    known = {key.lower(): key for key in keys}
    if not keys:
        return None, "it must show a group key of type DATE or TIMESTAMP; it has none"
    if given is None and len(keys) > 1:
        way = f'{{keep = "400d", key = "{keys[0]}"}}'
        return None, f"it must be said by which of {', '.join(keys)}, such as {way}"
    if given is not None and given.lower() not in known:
        return None, f"its key must be one of {', '.join(keys)}; got {given!r}"
    return known[given.lower()] if given is not None else keys[0], ""
