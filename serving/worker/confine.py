"""What a worker does to itself before it takes a statement: it gives up all that a query needs not.

    environment   emptied, where the kernel shows it too
    descriptors   all but the given ones lead to /dev/null
    limits        address space, size of files (none), descriptors, no core
    user          no capabilities; no more than it has by running another program
    network       a network of its own with nothing in it
    files         read beneath the given folders, nothing else (Landlock)
    hidden        other processes of the same user cannot look into it
    calls         no new process, no new socket, no file for writing (seccomp)

It is meant for a fork of a process of one thread. What is open goes on, memory stays; a thread may
be started. Nothing can be imported any more and no other database opened, so `prepare` comes first,
before the fork.

The limits must hold, or `NotConfined` is raised. The rest is as good as the platform allows, and
`Confinement` says what is missing and why.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import NotConfined
from serving.worker import guard, landlock, seccomp

LINUX = sys.platform == "linux"

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITIES = 0x20080522  # the version of what capset is given
# what DuckDB, pyarrow and the readers of segments import when a value first asks for it
_LATE = (
    "decimal",
    "encodings.cp437",  # of zip files
    "numpy",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pytz",
    "uuid",
    "zoneinfo",
)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """How much a worker may take."""

    memory: int  # bytes of address space beyond those that it has when it is confined
    descriptors: int = 256  # open at once


@dataclass(frozen=True)
class Confinement:
    """Which layers hold, and why the others do not."""

    active: tuple[str, ...]
    missing: Mapping[str, str]

    def json(self) -> dict[str, object]:
        return {"active": list(self.active), "missing": dict(self.missing)}


def confine(
    limits: Limits,
    readable: Sequence[Path],
    *,
    keep: Collection[int] = (),
    layers: Collection[str] | None = None,
) -> Confinement:
    """Give up all but reading beneath `readable` (folders that are there) and the descriptors to
    `keep`. `layers` are those to put on, for tests; all, if None."""
    for folder in readable:
        if not folder.is_dir():
            layer = "files"
            raise NotConfined(layer, f"there is no folder {folder}")
    # in this order: `files` and `calls` need that privileges were given up
    steps: dict[str, Callable[[], object]] = {
        "environment": _empty_environment,
        "descriptors": lambda: _close_others(keep),
        "limits": lambda: _limit(limits),
        "network": _leave_network,
        "user": _drop_privileges,
        "files": lambda: _give_up_files(readable),
        "hidden": _hide,
        "calls": _give_up_calls,
    }
    active, missing = [], {}
    for name, step in steps.items():
        if layers is not None and name not in layers:
            missing[name] = "not asked for"
            continue
        try:
            step()
        except (OSError, ValueError) as error:
            if name == "limits":
                raise NotConfined(name, str(error)) from error
            missing[name] = getattr(error, "strerror", None) or str(error)
        else:
            active.append(name)
    return Confinement(tuple(active), missing)


def prepare() -> None:
    """Import and make what a worker needs later, once, before it is forked: where DuckDB cannot ask
    how large the machine is, a new database ends the process."""
    for name in _LATE:
        importlib.import_module(name)
    guard.prepare()


def _empty_environment() -> None:
    """Of the dictionary, of C, and of the bytes that the kernel shows as this process's."""
    os.environ.clear()
    if not LINUX:
        raise OSError(errno.ENOSYS, "what the system shows of it stays")
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[47:49])
    ctypes.memset(start, 0, end - start)


def _close_others(keep: Collection[int]) -> None:
    """Their numbers stay taken, so that what still knows one closes nothing that came after it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for each in map(int, os.listdir("/dev/fd")):
        if each not in keep and each != nothing:
            try:
                os.fstat(each)
            except OSError:
                continue  # that of the listing itself
            os.dup2(nothing, each, inheritable=False)
    os.close(nothing)


def _limit(limits: Limits) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write, not the end
    bounds = {
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.descriptors,
    }
    if LINUX:  # elsewhere nothing holds to it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + limits.memory
    for each, bound in bounds.items():
        hard = resource.getrlimit(each)[1]
        least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(each, (least, least))
        if resource.getrlimit(each) != (least, least):
            raise OSError(errno.EINVAL, f"limit {each} is not what it was set to")


def _leave_network() -> None:
    """By right where there is one, else as the one user of a world of its own."""
    _need_linux()
    if _libc.unshare(_CLONE_NEWNET):
        _check("unshare", _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET))


def _drop_privileges() -> None:
    """Neither those that it has nor any that a program would give."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    _check("capset", _libc.capset(header, (ctypes.c_uint32 * 6)()))


def _hide() -> None:
    _prctl(_PR_SET_DUMPABLE, 0)


def _give_up_files(readable: Sequence[Path]) -> None:
    _need_linux()
    landlock.restrict(_libc, readable)


def _give_up_calls() -> None:
    _need_linux()
    seccomp.restrict(_libc)


def _prctl(option: int, value: int) -> None:
    _need_linux()
    _check("prctl", _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _check(call: str, result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def _need_linux() -> None:
    if not LINUX:
        raise OSError(errno.ENOSYS, "Linux alone has it")
