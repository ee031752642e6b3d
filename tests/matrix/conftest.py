"""The harness's modules say what differs, as tests do."""

from __future__ import annotations

import pytest

ROOMS = ("events", "kafka", "letters", "micro_batch", "rebuild", "sealing", "stage", "times")
pytest.register_assert_rewrite(*(f"tests.matrix.{name}" for name in (*ROOMS, "world")))
