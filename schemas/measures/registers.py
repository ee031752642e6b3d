"""approx_count_distinct: the least and the most hash of each of 4096 registers, as rows (keys,
register, least, most), merged by min and max.

The low 12 bits of the hash choose the register and the upper 32 are a number between 0 and 1 of
their own, v. Different values fall like a Poisson process of rate L into each register: none has
the likelihood e^-L, one L * e^-L, and two or more, of which nothing was below `least` or above
`most`, L^2 * e^(-L * (1 - (most - least))). The product over all registers is greatest where

    L = (registers with a value + registers with two or more) / (4096 - sum of most - least)

and the estimate is 4096 * L. Its standard error is 1 / sqrt(2 * 4096), 1.1 %, for any number up to
some 10^12; a number of which few share a register is met nearly exactly, as 4096 * L then counts
them. Where HyperLogLog keeps one rank of a register, which gives 1.6 %, this keeps two order
statistics: Chassaing, Gerin, "Efficient estimation of the cardinality of large data sets" (2006);
Giroire, "Order statistics and estimating cardinalities of massive data sets" (2009); Lumbroso, "An
optimal cardinality estimation algorithm based on order statistics and its full analysis" (2010).
docs/accuracy.md says what was measured.
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
_UPPER = "CAST(_value >> 32 AS UINTEGER)"
# all of these are integers, the same in any order
_SEEN = "(count(*) + count(*) FILTER (WHERE _least < _most))"
_SPREAD = "CAST(sum(CAST(_most - _least AS BIGINT)) AS DOUBLE)"
_ESTIMATE = f"round({REGISTERS}.0 * {_SEEN} / ({REGISTERS} - {_SPREAD} / pow(2, 32)))"

# eight standard errors; among millions of groups five of them are met by chance
WITHIN = "abs({ours} - {exact}) <= greatest(3, 0.09 * {exact})"


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
            values=(
                Partial("_least", "UINTEGER", f"min({_UPPER})", "min"),
                Partial("_most", "UINTEGER", f"max({_UPPER})", "max"),
            ),
            rows=REGISTERS,
        ),
        Finished(_ESTIMATE, "BIGINT"),
        Judged("count(DISTINCT {0})", WITHIN),
    )


ALL = (Aggregate("approx_count_distinct", 2, "approximate", "standard error 1.1 %", distinct),)
