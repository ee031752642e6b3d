"""approx_count_distinct: HyperLogLog as rows (keys, register, rank), merged by max.

4096 registers; the low 12 bits of the hash choose the register and the other 52 give the rank, the
position of their lowest set bit. Registers: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog"
(2007). Estimator without bias correction tables: Ertl, "New cardinality estimation algorithms for
HyperLogLog sketches" (2017), algorithm 6.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures.measure import (
    Aggregate,
    Bucket,
    Call,
    Finished,
    Judged,
    Measure,
    Partial,
    RefusedCall,
    Wide,
    one_argument,
)

REGISTERS = 4096
INDEX_BITS = 12
TOP_RANK = 64 - INDEX_BITS + 1

_REST = f"CAST(_value >> {INDEX_BITS} AS BIGINT)"
# the bits below the lowest set one are its position; no bit at all counts as position 52
_RANK = f"CAST(least(bit_count(({_REST} & -{_REST}) - 1), {TOP_RANK - 1}) + 1 AS UTINYINT)"
# the powers of two are summed as integers, exact in any order
_POWERS = f"CAST(sum(CAST(1 AS BIGINT) << ({TOP_RANK} - _rank)) AS DOUBLE) / pow(2, {TOP_RANK})"
_EMPTY = f"(({REGISTERS} - count(*)) / {REGISTERS})"
# sigma(x) = x + sum over k of x^(2^k) * 2^(k-1); beyond 24 terms nothing is left of 4095/4096
_SIGMA = (
    f"({_EMPTY} + list_sum(list_transform(range(1, 25), "
    f"lambda k: pow({_EMPTY}, pow(2, k)) * pow(2, k - 1))))"
)
_ESTIMATE = (
    f"round({REGISTERS}.0 * {REGISTERS} / (2 * ln(2)) / ({_POWERS} + {REGISTERS} * {_SIGMA}))"
)

# eight standard errors; among millions of groups five of them are met by chance
WITHIN = "abs({ours} - {exact}) <= greatest(3, 0.13 * {exact})"


def distinct(call: Call) -> Measure:
    """About how many different values that are not NULL."""
    argument, type_name = one_argument(call)
    if type_name == "DOUBLE":
        argument = f"({argument}) + 0.0"
    elif not column_types.comparable(type_name):
        message = f"{call.function} must be of a plain value; got {type_name}. CAST it to VARCHAR"
        raise RefusedCall(message)
    where = f"({argument}) IS NOT NULL"
    return Measure(
        (),
        "coalesce({finished}, 0)",
        Wide(
            kind="registers",
            value=f"hash({argument})",
            where=f"{where} AND ({call.where})" if call.where else where,
            buckets=(Bucket("_register", "USMALLINT", f"_value & {REGISTERS - 1}"),),
            values=(Partial("_rank", "UTINYINT", f"max({_RANK})", "max"),),
            rows=REGISTERS,
        ),
        Finished(_ESTIMATE, "BIGINT"),
        Judged("count(DISTINCT {0})", WITHIN),
    )


ALL = (Aggregate("approx_count_distinct", 1, "approximate", "standard error 1.6 %", distinct),)
