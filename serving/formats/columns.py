"""Columns of Arrow and Parquet: the engine's own, but for what these formats have no place for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from serving.envelope import Code, RequestError
from serving.formats import values
from serving.formats.result import Result

Change = Callable[[Any], Any]  # an Arrow array -> another one

DIGITS = 38
INTERVAL = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("microseconds", pa.int64())])
_MOST = 10**DIGITS - 1


class Columns:
    """The columns of a result under `names`; flat ones have neither intervals nor unions."""

    def __init__(self, result: Result, names: Sequence[str], *, flat: bool) -> None:
        self._changes: list[Change | None] = []
        fields = []
        for name, type_, field in zip(names, result.types, result.schema, strict=True):
            kind, change = _fitted(type_, field.type, flat)
            fields.append(field.with_name(name).with_type(kind))
            self._changes.append(change)
        self.schema = pa.schema(fields)
        self._same = self.schema.equals(result.schema)

    def fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with these columns. Raises RequestError for a value that has no place."""
        if self._same and not any(self._changes):
            return batch
        columns = [
            column if change is None else change(column)
            for change, column in zip(self._changes, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _fitted(type_: DuckDBPyType, arrow: Any, flat: bool) -> tuple[Any, Change | None]:
    """The Arrow type that a column gets, and what makes it; None where it is there already."""
    kind = type_.id
    if kind in ("hugeint", "uhugeint"):
        least = 0 if kind == "uhugeint" else -_MOST
        return arrow, lambda array: _checked(array, least)
    if kind == "bit":
        return pa.string(), lambda array: pa.array(values.bits(array), pa.string())
    if kind == "interval" and flat:
        return INTERVAL, lambda array: pa.array(values.intervals(array), INTERVAL)
    if kind not in ("list", "array", "map", "struct", "tuple", "union"):
        return arrow, None
    inside = [arrow.field(at) for at in range(arrow.num_fields)]
    if kind == "map":
        inside = [arrow.key_field, arrow.item_field]
    fitted = [
        _fitted(child, field.type, flat)
        for (_, child), field in zip(values.nested(type_), inside, strict=True)
    ]
    fields = [field.with_type(made) for field, (made, _) in zip(inside, fitted, strict=True)]
    changes = [change for _, change in fitted]
    if kind == "union" and flat:
        return pa.struct(fields), lambda array: _spread(array, fields, changes)
    if not any(changes):
        return arrow, None
    return _nested(kind, arrow, fields, changes)


def _nested(
    kind: str, arrow: Any, fields: list[Any], changes: list[Change | None]
) -> tuple[Any, Change]:
    made: Any
    if kind == "list":
        made = pa.list_(fields[0])
        return made, lambda array: pa.ListArray.from_arrays(
            array.offsets, _changed(changes[0], array.values), type=made, mask=array.is_null()
        )
    if kind == "array":
        made = pa.list_(fields[0], arrow.list_size)
        return made, lambda array: pa.FixedSizeListArray.from_arrays(
            _changed(changes[0], array.values), type=made, mask=array.is_null()
        )
    if kind == "map":
        made = pa.map_(*fields)
        return made, lambda array: pa.MapArray.from_arrays(
            array.offsets,
            _changed(changes[0], array.keys),
            _changed(changes[1], array.items),
            type=made,
            mask=array.is_null(),
        )
    if kind == "union":
        made = pa.sparse_union(fields)
        return made, lambda array: _united(array, fields, changes)
    return pa.struct(fields), lambda array: pa.StructArray.from_arrays(
        [_changed(change, part) for change, part in zip(changes, array.flatten(), strict=True)],
        fields=fields,
        mask=array.is_null(),
    )


def _changed(change: Change | None, array: Any) -> Any:
    return array if change is None else change(array)


def _spread(array: Any, fields: list[Any], changes: list[Change | None]) -> Any:
    """A struct of all members of a union, of which those that a value is not are NULL."""
    _, parts = values.members(array)
    columns = [_changed(change, part) for change, part in zip(changes, parts, strict=True)]
    return pa.StructArray.from_arrays(columns, fields=fields)


def _united(array: Any, fields: list[Any], changes: list[Change | None]) -> Any:
    codes, parts = values.members(array)
    columns = [_changed(change, part) for change, part in zip(changes, parts, strict=True)]
    names = [field.name for field in fields]
    return pa.UnionArray.from_sparse(pa.array(codes, pa.int8()), columns, names)


def _checked(array: Any, least: int) -> Any:
    """The array, if what it holds are its digits: the upper half of UHUGEINT arrives negative."""
    low, high = values.extremes(array)
    if low is not None and not (least <= low and high <= _MOST):
        message = f"an integer must have at most {DIGITS} digits in this format; cast it to VARCHAR"
        raise RequestError(Code.BAD_SQL, message)
    return array
