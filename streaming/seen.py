"""What a task saw of event times and of rejects, beside the numbers of its events.

Costs a pass over the event times of accepted events, which lie there in the order of offsets.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa

from schemas.compile import CompiledStream
from schemas.ledger.instant import microseconds
from schemas.observed import Seen

INFINITE = np.iinfo(np.int64).max  # DuckDB's 'infinity'; with a minus the other one


def seen_times(
    stream: CompiledStream, records: pa.Table, master: pa.Table, instant: datetime
) -> tuple[dict[int, Seen], int]:
    """By partition, and how many event times are after the epoch's instant."""
    stamps = records["_timestamp"].cast(pa.int64()).to_numpy()
    read = records["_partition"].to_numpy()
    seen = {p: Seen(stamped=int(stamps[read == p].max())) for p in _present(read)}
    if stream.event_time is None or not master.num_rows:
        return seen, 0
    at = microseconds(instant)
    times = master[stream.event_time].cast(pa.timestamp("us"))
    known = times.is_valid().to_numpy() & ~master["_duplicate"].to_numpy()
    moments = times.to_numpy().astype(np.int64)  # of NULL it makes NaT, which is not known
    known &= (moments != INFINITE) & (moments != -INFINITE)
    moments, partitions = moments[known], master["_partition"].to_numpy()[known]
    for partition in _present(partitions):
        seen[partition] = _seen(moments[partitions == partition], at, seen[partition].stamped)
    return seen, int(np.count_nonzero(moments > at))


def _present(partitions: np.ndarray[tuple[int], np.dtype[np.int32]]) -> list[int]:
    """The numbers among them, without sorting them."""
    found: list[int] = np.flatnonzero(np.bincount(partitions)).tolist()
    return found


def reasons(rejects: pa.Table) -> dict[str, int]:
    """How many records were rejected for each reason."""
    return dict(Counter(str(each) for each in rejects["_reason"].to_pylist()))


def _seen(moments: np.ndarray[tuple[int], np.dtype[np.int64]], at: int, stamp: int | None) -> Seen:
    """Of one partition's event times in the order of offsets; there is at least one."""
    reached = np.minimum(moments, at)
    behind = np.maximum.accumulate(reached) - reached
    return Seen(
        int(moments.max()), int(reached.max()), int(reached.min()), int(behind.max()), stamp
    )
