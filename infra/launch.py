"""`python -m infra.launch PARENT COMMAND...`: becomes COMMAND, and ends when PARENT does.

The supervisor starts every part through this. Where the kernel can (Linux), the part gets SIGTERM
as soon as the supervisor is gone, however it went; elsewhere the next `up` clears what is left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    # children of a shell's background job ignore these; a part must not
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it went before the line above
            sys.exit(143)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
