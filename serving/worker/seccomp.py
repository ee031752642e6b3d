"""System calls that a process gives up, itself and its threads, for as long as it lives (Linux).

What it gives up fails with EPERM: new processes, new sockets, a file opened for writing, names and
properties of files changed, signals to others, what looks into others. What is open goes on, and so
do threads. No library for this is both kept up and free of one in C, hence the filter itself:

    load the architecture -> another one: refused
    load the number       -> one of `REFUSED`: refused; one of `_judged`: by its argument
    all others            -> allowed
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

# as the kernel and each architecture number them: x86_64, aarch64; None where there is none
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "unshare": (272, 97),
    "setns": (308, 268),
    # the network; bytes go on over sockets that are open
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    # files
    "creat": (85, None),
    "truncate": (76, 45),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "mount": (165, 40),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    # wide doors into the kernel, which no query needs
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
}
# arguments that the filter cannot read: their callers fall back to the calls before them
ABSENT: dict[str, tuple[int | None, int | None]] = {"clone3": (435, 435), "openat2": (437, 437)}

_OPEN: dict[str, tuple[tuple[int | None, int | None], int]] = {  # and which argument has the flags
    "open": ((2, None), 1),
    "openat": ((257, 56), 2),
}
_CLONE, _KILL, _TGKILL, _PRLIMIT = (56, 220), (62, 129), (234, 131), (302, 261)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CLONE_THREAD = 0x10000
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000  # x86_64's second way to number the same calls

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they lie in what a filter is given
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict(libc: ctypes.CDLL) -> None:
    """Give them up. The process must be unable to gain privileges. `OSError` where there is no such
    filter, or the architecture is not known here."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    instructions = list(_filter(*_ARCHITECTURES[machine], os.getpid()))
    data = b"".join(struct.pack("HBBI", *each) for each in instructions)
    program = _Program(len(instructions), data)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")


def _filter(architecture: int, column: int, pid: int) -> Iterator[_Instruction]:
    refuse, absent = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield from _unless(_EQUAL, architecture, refuse)
    yield _LOAD, 0, 0, _NUMBER
    yield from _if(_AT_LEAST, _X32, refuse)
    for numbers in REFUSED.values():
        yield from _number(numbers[column], [(_RETURN, 0, 0, refuse)])
    for numbers in ABSENT.values():
        yield from _number(numbers[column], [(_RETURN, 0, 0, absent)])
    for numbers, flags in _OPEN.values():
        yield from _judged(numbers[column], flags, list(_if(_ANY_BIT, _WRITES, refuse)))
    yield from _judged(_CLONE[column], 0, list(_unless(_ANY_BIT, _CLONE_THREAD, refuse)))
    yield from _judged(_KILL[column], 0, list(_unless(_EQUAL, pid, refuse)))
    yield from _judged(_TGKILL[column], 0, list(_unless(_EQUAL, pid, refuse)))
    yield from _judged(_PRLIMIT[column], 0, list(_unless(_EQUAL, 0, refuse)))
    yield _RETURN, 0, 0, _ALLOW


def _judged(number: int | None, argument: int, rules: list[_Instruction]) -> Iterator[_Instruction]:
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)  # its lower half
    yield from _number(number, [load, *rules, (_RETURN, 0, 0, _ALLOW)])


def _number(number: int | None, then: list[_Instruction]) -> Iterator[_Instruction]:
    if number is not None:
        yield _EQUAL, 0, len(then), number
        yield from then


def _if(test: int, operand: int, result: int) -> Iterator[_Instruction]:
    yield test, 0, 1, operand
    yield _RETURN, 0, 0, result


def _unless(test: int, operand: int, result: int) -> Iterator[_Instruction]:
    yield test, 1, 0, operand
    yield _RETURN, 0, 0, result
