"""The boundary of batch and speed, and the only place that compares an epoch with it.

Law (tests/laws/test_cut.py): every epoch is owned by exactly one side, in Python and in SQL.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import CutInvalid


@dataclass(frozen=True, order=True)
class Cut:
    """Batch owns every epoch <= `epoch`, speed every epoch > `epoch`; 0 where nothing is built."""

    epoch: int

    def __post_init__(self) -> None:
        if self.epoch < 0:
            raise CutInvalid(self.epoch)

    def owns_batch(self, epoch: int) -> bool:
        return epoch <= self.epoch

    def owns_speed(self, epoch: int) -> bool:
        return not self.owns_batch(epoch)

    def batch_sql(self, column: str = "_epoch") -> str:
        """The condition in DuckDB SQL that keeps batch's epochs; `column` is an expression."""
        return f"({column} <= {self.epoch})"

    def speed_sql(self, column: str = "_epoch") -> str:
        """The condition in DuckDB SQL that keeps speed's epochs; `column` is an expression."""
        return f"({column} > {self.epoch})"
