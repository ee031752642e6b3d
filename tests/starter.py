"""The project of `everview init`: the commands of its README, and the truth about its orders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

PROMPT = "    $ "


@dataclass(frozen=True)
class Step:
    """A command that the README shows, and the output below it: '' where it shows none."""

    command: str
    output: str


def steps(readme: Path) -> list[Step]:
    """In the order in which they stand there."""
    found: list[Step] = []
    for line in readme.read_text(encoding="utf-8").splitlines():
        if line.startswith(PROMPT):
            found.append(Step(line.removeprefix(PROMPT), ""))
        elif line.startswith("    ") and found:
            last = found.pop()
            found.append(Step(last.command, f"{last.output}{line.removeprefix('    ')}\n"))
    return found


@dataclass(frozen=True)
class Orders:
    """What the lines of a file come to, by a loop that knows nothing of everview."""

    lines: int
    counted: tuple[Mapping[str, Any], ...]
    repeated: int
    malformed: int


def orders(file: Path) -> Orders:
    counted: dict[int, Mapping[str, Any]] = {}
    repeated = malformed = 0
    lines = file.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            order = json.loads(line, parse_float=Decimal)
        except ValueError:
            malformed += 1
            continue
        if "customer" not in order or order["quantity"] < 1 or isinstance(order["price"], str):
            malformed += 1
        elif order["order_id"] in counted:
            assert counted[order["order_id"]] == order
            repeated += 1
        else:
            counted[order["order_id"]] = order
    return Orders(len(lines), tuple(counted.values()), repeated, malformed)


def amount(order: Mapping[str, Any]) -> Decimal:
    return Decimal(order["quantity"] * order["price"])


def median(amounts: list[Decimal]) -> Decimal:
    """The value at rank ceil(n / 2)."""
    return sorted(amounts)[(len(amounts) + 1) // 2 - 1]


def best(products: Counter[str]) -> str:
    """The one that came most often; of several the first by name."""
    return min(products, key=lambda product: (-products[product], product))
