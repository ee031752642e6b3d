"""An Arrow IPC stream: a record batch for each that the engine gives."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from serving.formats.columns import Columns
from serving.formats.outlet import Outlet
from serving.formats.result import Result


def write(result: Result) -> Iterator[bytes]:
    columns = Columns(result, result.names, flat=False)
    outlet = Outlet()
    with pa.ipc.new_stream(outlet.file, columns.schema) as writer:
        yield outlet.take()
        for batch in result.batches():
            writer.write_batch(columns.fitted(batch))
            yield outlet.take()
    yield outlet.take()
