"""Free ports on loopback, kept from one start to the next while they stay free."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from infra.files import replace
from schemas.errors import BadUse

LOWEST, HIGHEST = 20000, 32000
"""Below the range from which the kernel takes ports for outgoing connections."""


def free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose(file: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """A port per name: the one wanted; where that is 0 the one in `file` if free, or a new one.

    Raises BadUse if a wanted one is taken.
    """
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        if port and not free(port):
            message = f"port {port} for {name} must be free; something listens there already"
            raise BadUse(message)
        candidate = port or kept.get(name, 0)
        while not port and (candidate in chosen.values() or not candidate or not free(candidate)):
            candidate = random.randint(LOWEST, HIGHEST)
        chosen[name] = candidate
    replace(file, json.dumps({**kept, **chosen}))
    return chosen
