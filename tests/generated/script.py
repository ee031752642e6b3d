"""A case as a program that shows the difference: `python counterexample.py`, from the root of the
project; its exit code is 1 while the answers differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from tests.generated.shrinking import Failing

HEAD = '''"""{title}"""

import datetime
import sys
from decimal import Decimal

from tests.generated.case import Declared, judge
from tests.generated.splits import Split
from tests.generated.streams import Event

'''
TAIL = """
verdict = judge(DECLARED, {"%s": VIEW}, EVENTS, SPLITS)["%s"]
print(VIEW, verdict.kind, verdict.text, sep="\\n")
sys.exit(verdict.kind == "differs")
"""


def write(failing: Failing, title: str) -> str:
    """The program."""
    declared = [
        f"    {field.name}={_lines(getattr(failing.declared, field.name))},"
        for field in fields(failing.declared)
    ]
    parts = [
        "DECLARED = Declared(\n" + "\n".join(declared) + "\n)",
        f'VIEW = """{failing.view.text}"""'.replace("\\", "\\\\"),
        "EVENTS = [\n" + "".join(f"    {each!r},\n" for each in failing.events) + "]",
        "SPLITS = [\n" + "".join(f"    {each!r},\n" for each in failing.splits) + "]",
    ]
    name = failing.view.name
    return HEAD.format(title=title) + "\n".join(parts) + TAIL % (name, name)


def _lines(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Iterable):
        return "(\n" + "".join(f"        {each!r},\n" for each in value) + "    )"
    return repr(value)
