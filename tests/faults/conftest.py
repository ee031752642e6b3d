"""Fixtures of the ledger's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.ledger.connect import Ledger, open_ledger
from tests.faults.committer import deploy


@pytest.fixture
def ledger(state: Path) -> Iterator[Ledger]:
    """A new ledger with one stream and its two views."""
    with open_ledger(state, create=True) as opened:
        deploy(opened)
        yield opened
