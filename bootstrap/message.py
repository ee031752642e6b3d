"""What a machine must have before anything can be installed, said once, with the commands."""

import importlib.util
import sys

OLD_PYTHON = """\
everview needs Python 3.11 or newer; {executable} is Python {found}. Where there is a newer one,
name it: make PYTHON=python3.12. To install one:
  Debian, Ubuntu:  sudo apt-get install python3 python3-venv     (Debian 12, Ubuntu 24.04 or newer)
  Fedora:          sudo dnf install python3
  macOS:           brew install python@3.12
"""

LACKS = """\
everview needs what this machine lacks:
{lacks}
To install it:
  Debian, Ubuntu:  {debian}
  Fedora:          {fedora}
  macOS:           {macos}
Then run the same command again.
"""


def venv_lack() -> "str | None":
    """What is wrong with this Python's venv module, or None."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        return f"Python's venv module; {sys.executable} comes without {' and '.join(missing)}"
    return None


def lacks_message(java: "str | None", venv: "str | None") -> "str | None":
    """One message for all that is missing, or None where nothing is."""
    lacks = [text for text in (java, venv) if text is not None]
    if not lacks:
        return None
    debian, fedora, macos = [], [], []
    if java is not None:
        debian.append("openjdk-17-jre-headless")
        fedora.append("java-21-openjdk-headless")
        macos.append("openjdk@17")
    if venv is not None:
        debian.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
        fedora.append("python3")
        macos.append("python@3.12")
    home = ' && export JAVA_HOME="$(brew --prefix openjdk@17)"' if java is not None else ""
    return LACKS.format(
        lacks="\n".join(f"  {text}" for text in lacks),
        debian=f"sudo apt-get install {' '.join(debian)}",
        fedora=f"sudo dnf install {' '.join(fedora)}",
        macos=f"brew install {' '.join(macos)}{home}",
    )
