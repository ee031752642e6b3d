"""`python3 -m bootstrap`, in the project's folder: makes everything that the project runs on.

This file alone must be readable by a Python that is too old: it says so in one message.
"""

import sys

REQUIRED = (3, 11)


def main() -> int:
    if sys.version_info[:2] < REQUIRED:
        from bootstrap.message import OLD_PYTHON

        sys.stderr.write(OLD_PYTHON.format(executable=sys.executable, found=sys.version.split()[0]))
        return 2
    from bootstrap.environment import make

    return make()


if __name__ == "__main__":
    sys.exit(main())
