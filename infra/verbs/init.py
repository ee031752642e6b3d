"""Make a new project: a small shop with a stream of orders, to run, to read and to change.

NAME is a folder that is not there yet, or an empty one; '.' is the folder you are in.
"""

from __future__ import annotations

import argparse
import re
import shlex
from importlib import resources
from pathlib import Path

from infra import settings
from schemas.errors import BadUse

STARTER = resources.files("infra") / "starter"
HIDDEN = {"gitignore": ".gitignore"}
"""Files that are called otherwise in a project; in here they would mean this repository."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def run(found: argparse.Namespace) -> int:
    folder = make(Path(found.name))
    print(
        f"made {folder.resolve()} with {', '.join(sorted(path.name for path in folder.iterdir()))}"
    )
    print("what to do next, and what to expect, is told in its README.md:")
    if folder.resolve() != Path.cwd():
        print(f"    cd {shlex.quote(str(folder))}")
    print("    everview up --detach")
    print("    everview produce orders orders.ndjson")
    print('    everview sql "FROM shop_day ORDER BY day"')
    return 0


def make(folder: Path) -> Path:
    """A new project in `folder`. Raises BadUse."""
    texts = {
        HIDDEN.get(file.name, file.name): file.read_text(encoding="utf-8")
        for file in STARTER.iterdir()
    }
    texts[settings.FILE] = defaults()
    try:
        refuse(folder)
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        message = f"project folder {str(folder)!r} must be readable and writable; {error.strerror}"
        raise BadUse(message) from error
    return folder


def refuse(folder: Path) -> None:
    """BadUse unless a project can be made there."""
    subject = f"project folder {str(folder)!r}"
    message = ""
    if folder.is_dir():
        content = sorted(path.name for path in folder.iterdir())
        if content:
            message = f"{subject} must be empty; it holds {content[0]!r}. Choose another name"
    elif folder.exists() or folder.is_symlink():
        message = f"{subject} must be a folder; there is a file of that name. Choose another name"
    elif not NAME.fullmatch(folder.name):
        message = (
            f"name of a project must be up to 100 letters, digits, '_', '-' and '.', and start "
            f"with none of the last two; got {folder.name!r}"
        )
    elif not folder.parent.is_dir():
        message = f"{subject} must lie in a folder that exists; there is no {str(folder.parent)!r}"
    if message:
        raise BadUse(message)


def defaults() -> str:
    """An everview.toml in which every setting stands with its default, none of them set."""
    lines = [
        "# How this project is run; what the views mean stands in the *.sql files.",
        "# Each line shows a setting's default: take the '#' away to change it.",
    ]
    for section, rules in settings.RULES.items():
        lines += ["", f"[{section}]"]
        for key, rule in rules.items():
            lines += [f"# {rule.meaning}", f"#{key} = {settings.written(rule.default)}"]
    return "\n".join(lines) + "\n"
