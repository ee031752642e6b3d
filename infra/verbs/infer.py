"""Draft a CREATE STREAM from a file: NDJSON, CSV or Parquet, packed by gzip, zip or zstd or not.

The first records are read, and types are proposed that fit them; the SQL that will parse the
events has judged the draft. Look it over: it knows only what it saw. It goes to stdout:

    everview infer clicks.ndjson.gz --name clicks > clicks.sql
"""

from __future__ import annotations

import argparse

from infra import drafting
from schemas.errors import BadUse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    help_ = "what the stream and its topic are called; default: the file's name"
    parser.add_argument("--name", metavar="NAME", help=help_)
    help_ = f"how many records to look at (default {drafting.SAMPLE:,})"
    parser.add_argument("--sample", type=int, default=drafting.SAMPLE, metavar="N", help=help_)


def run(found: argparse.Namespace) -> int:
    if found.sample < 1:
        message = f"--sample must be 1 or more; got {found.sample}"
        raise BadUse(message)
    print(drafting.draft(found.file, found.name, found.sample).text(), end="")
    return 0
