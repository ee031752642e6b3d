"""What follower, spare and workers hand on: objects as bytes, tables by Arrow's own format.

It is pickle, between processes that are one program. What a worker sends is never unpacked.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from typing import Any

import pyarrow as pa


class _Packer(pickle.Pickler):
    # pyarrow pickles a slice with all of what it is a slice of: a table that was read in eight
    # batches would be packed eight times
    dispatch_table = copyreg.dispatch_table.copy()


def _table(table: pa.Table) -> tuple[Callable[[pa.Buffer], pa.Table], tuple[pa.Buffer]]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return _opened, (sink.getvalue(),)


def _opened(data: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


_Packer.dispatch_table[pa.Table] = _table


def pack(what: object) -> bytes:
    """Bytes that `unpack` makes the same of."""
    sink = io.BytesIO()
    _Packer(sink, protocol=pickle.HIGHEST_PROTOCOL).dump(what)
    return sink.getvalue()


def unpack(data: bytes) -> Any:
    return pickle.loads(data)
