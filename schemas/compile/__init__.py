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
from schemas.compile.references import CompiledReference, compile_reference

__all__ = [
    "PASSES",
    "Compared",
    "CompiledReference",
    "CompiledStream",
    "CompiledView",
    "Finish",
    "PartialColumn",
    "PartialTable",
    "compile_reference",
    "compile_stream",
    "compile_view",
]
