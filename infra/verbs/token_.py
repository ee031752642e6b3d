"""Make a token with which NAME may ask the stack.

It is printed once and kept nowhere: the file that `[serving] tokens` of everview.toml names gets
its hash, and the running stack lets it in from then on. A name may have several tokens, so that one
can replace another; to take one back, remove its line.
"""

from __future__ import annotations

import argparse
import os
import sys

from infra import settings
from infra.asking import TOKEN
from schemas.errors import BadUse
from serving.front import tokens

FILE = "tokens"
"""Where they are while everview.toml names no file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="letters, digits and _.@-")


def run(found: argparse.Namespace) -> int:
    if not tokens.NAME.fullmatch(found.name):
        message = f"NAME must be of letters, digits and _.@-; got {found.name!r}"
        raise BadUse(message)
    chosen = settings.load(found.project, os.environ).serving.tokens
    file = found.project / (chosen or FILE)
    made = tokens.make(file, found.name)
    print(made)
    print(f"its hash is in {file}; clients send: Authorization: Bearer TOKEN", file=sys.stderr)
    print(f"everview's own commands take it from the variable {TOKEN}", file=sys.stderr)
    if not chosen:
        told = f"has to have the line tokens = {settings.written(FILE)} (uncomment it, or add it)"
        where = "section [serving] of everview.toml"
        print(f"nothing asks for tokens yet: {where} {told}", file=sys.stderr)
    return 0
