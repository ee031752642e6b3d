"""What the routes need of whatever answers: the one thing that they are given."""

from __future__ import annotations

from typing import Any, Protocol

from serving.query import Query, Reply


class Answers(Protocol):
    """Views by name and what is known of them, and the answers to queries over them."""

    async def answer(self, query: Query, user: str, timeout_ms: int) -> Reply:
        """The answer within that time, the wait for its turn included, or a `RequestError`. Turns
        are shared out by `user`. Cancelling this stops the query."""

    def views(self) -> dict[str, dict[str, Any]]:
        """Every view by its name: columns, keys, and the coverage that a query now would have."""

    def streams(self) -> list[dict[str, Any]]:
        """Every stream: how far it is."""

    def unready(self) -> list[str]:
        """Why this server is not ready; empty if it is."""

    def waiting(self) -> dict[str, str]:
        """Views that cannot be asked yet, and why."""
