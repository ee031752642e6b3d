"""What of the file system, of TCP and of other processes a process may still reach (Linux 5.13+).

Whoever has called `restrict` reads files beneath the given folders, and nothing else of what
Landlock knows. It holds for the calling thread and all that it starts, and cannot be undone.
The libraries for it are pre-releases or a few months old; it is three system calls.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_VERSION = 1  # the flag of _CREATE_RULESET that asks for it
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3

# bits of rights on files that each version knows: 13 of them, REFER, TRUNCATE, IOCTL_DEV
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP = 0b11, 4  # bind and connect, since that version
_SCOPES = 0b11, 6  # abstract sockets and signals


def restrict(libc: ctypes.CDLL, readable: Sequence[Path]) -> None:
    """Give up all but reading beneath `readable`, which must be there. The process must be unable
    to gain privileges. `OSError` where there is no Landlock."""
    version = _call(libc, _CREATE_RULESET, None, 0, _VERSION)
    rules = struct.pack(
        "QQQ",
        (1 << _FILE_RIGHTS[min(version, 5)]) - 1,
        _TCP[0] if version >= _TCP[1] else 0,
        _SCOPES[0] if version >= _SCOPES[1] else 0,
    )
    size = 8 if version < _TCP[1] else 16 if version < _SCOPES[1] else 24
    ruleset = _call(libc, _CREATE_RULESET, rules, size, 0)
    try:
        for folder in readable:
            _allow(libc, ruleset, folder)
        _call(libc, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: Path) -> None:
    beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        rule = struct.pack("=Qi", _READ_FILE | _READ_DIR, beneath)
        _call(libc, _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)


def _call(libc: ctypes.CDLL, number: int, *arguments: int | bytes | None) -> int:
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
