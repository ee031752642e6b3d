"""Definitions -> the SQL that every layer runs: parse, dedup, fold, merge, finish, present."""

from schemas.compile.compiled import (
    PASSES,
    CompiledStream,
    CompiledView,
    compile_stream,
    compile_view,
)
from schemas.compile.exact import Compared
from schemas.compile.partials import Finish, PartialColumn, PartialTable
from schemas.compile.raw import CompiledRaw, compile_raw
from schemas.compile.references import CompiledReference, compile_reference

__all__ = [
    "PASSES",
    "Compared",
    "CompiledRaw",
    "CompiledReference",
    "CompiledStream",
    "CompiledView",
    "Finish",
    "PartialColumn",
    "PartialTable",
    "compile_raw",
    "compile_reference",
    "compile_stream",
    "compile_view",
]
