"""What is installed, locked and tracked is what it says it is."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra import dags, jars
from schemas.errors import JarsNotReady

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("bootstrap/bootstrap.lock", "bootstrap/environment.lock")
LARGEST = 400_000  # bytes; the longest lock has 140,000

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


FILES = ["dags"]  # a folder of the wheel that is no package: Airflow loads its files


def wheel_packages() -> list[str]:
    folders: list[str] = settings()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(FILES) <= set(folders)
    return [each for each in folders if each not in FILES]


def pins(lock: str) -> dict[str, str]:
    """Name -> version, of a lock's requirements."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    found = [re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line) for line in lines]
    assert found
    assert all(found), f"{lock} must hold exact versions only"
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def tracked() -> list[Path]:
    """What git tracks, and what it would: new files that are not ignored."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    told = subprocess.run(
        [*command, "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in told.stdout.split("\0") if name]
    assert len(files) > 20
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("name", wheel_packages())
def test_names_resolve_to_this_project(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")


def test_every_package_is_in_the_wheel_and_under_every_tool() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages = set(wheel_packages())
    assert found - {"tests", "bootstrap"} == packages
    tools = settings()["tool"]
    assert packages | set(FILES) <= set(tools["mypy"]["files"])
    assert packages == set(tools["importlinter"]["root_packages"])


@pytest.mark.parametrize("package", [*wheel_packages(), "tests", "bootstrap"])
def test_every_folder_of_code_is_a_package(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert folders
    bare = {folder for folder in folders if not (folder / "__init__.py").exists()}
    assert bare <= {ROOT / "infra" / "spark"}  # a script for spark-submit, alone in its folder


def test_the_files_for_airflow_are_where_they_are_looked_for() -> None:
    assert {ROOT / name for name in FILES} == {dags.FOLDER}
    found = [path.relative_to(dags.FOLDER) for path in dags.FOLDER.rglob("*.py")]
    assert found
    assert all(len(path.parts) == 1 and path.stem != "__init__" for path in found)
    assert not {path.stem for path in found} & set(wheel_packages())
    assert dags.APPLICATION.is_file()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_environment_lock_answers_the_project() -> None:
    project, found = settings()["project"], pins("bootstrap/environment.lock")
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    wanted += settings()["dependency-groups"]["bootstrap"]
    for requirement in map(Requirement, wanted):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_bootstrap_lock_is_a_part_of_the_environment_lock() -> None:
    part, whole = pins("bootstrap/bootstrap.lock"), pins("bootstrap/environment.lock")
    assert part["uv"] == "0.13.9"
    assert {"uv", "hatchling", "editables", "setuptools"} <= part.keys()
    assert part.items() <= whole.items()


def test_jars_lock_is_complete() -> None:
    lines = (ROOT / "infra" / "jars.lock").read_text(encoding="utf-8").splitlines()
    locked = jars.locked()
    assert len(locked) == len(lines) == 52
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in locked.values())
    for part in jars.SETS:
        for module in part.modules:
            assert f"{part.folder}/{module.artifact}-{module.revision}.jar" in locked
        if not part.whole:
            names = [name for name in locked if name.startswith(f"{part.folder}/")]
            assert len(names) == len(part.modules)


def test_spark_and_its_connector_are_of_one_version() -> None:
    (connector,) = (part for part in jars.SETS if part.folder == jars.CONNECTOR)
    revisions = {m.revision for m in connector.modules if m.group == "org.apache.spark"}
    assert revisions == {pins("bootstrap/environment.lock")["pyspark"]}


def test_jars_that_are_missing_are_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERVIEW_CACHE", str(tmp_path))
    with pytest.raises(JarsNotReady, match=r"no such folder.*make setup"):
        jars.broker_classpath()


def test_a_changed_jar_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVERVIEW_CACHE", str(tmp_path / "copy"))
    locked = {
        "connector/a.jar": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "connector/b.jar": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    text = "".join(f"{digest}  {name}\n" for name, digest in locked.items())
    monkeypatch.setattr(jars, "_lock_text", lambda: text)
    folder = jars._folder() / "connector"
    folder.mkdir(parents=True)
    (folder / "a.jar").write_bytes(b"abc")
    (folder / "b.jar").write_bytes(b"abc")
    assert jars.connector_jars() == [folder / "a.jar", folder / "b.jar"]

    (folder / "b.jar").write_bytes(b"abd")
    with pytest.raises(JarsNotReady, match=r"b\.jar must have sha256"):
        jars.connector_jars()
    (folder / "b.jar").unlink()
    with pytest.raises(JarsNotReady, match=r"b\.jar is missing"):
        jars.connector_jars()
    (folder / "b.jar").write_bytes(b"abc")
    (folder / "c.jar").write_bytes(b"")
    with pytest.raises(JarsNotReady, match=r"c\.jar is not in jars\.lock"):
        jars.connector_jars()


def test_ci_run_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@needs_git
def test_nothing_built_or_fetched_is_tracked() -> None:
    built = re.compile(
        r"\.(pyc|pyo|so|whl|jar|class|zip|gz|xz|zst|parquet|arrow|db|sqlite|log|pid|egg-info)$"
        r"|(^|/)(\.venv|dist|build|__pycache__|node_modules|\.everview|\.idea|\.vscode)/"
        r"|(^|/)(\.DS_Store|uv\.lock|everview\.json)$"
    )
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not built.search(name), name
        assert path.stat().st_size <= LARGEST, name


@needs_git
def test_nothing_secret_is_tracked() -> None:
    secret = re.compile(
        rb"-----BEGIN [A-Z ]*PRIVATE KEY"
        rb"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
        rb"|\bgh[opsur]_[A-Za-z0-9]{30,}|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abpr]-[A-Za-z0-9-]{10,}"
        rb"|[a-z]+://[^\s/:@'\"{}]+:[^\s/@'\"{}]+@"
    )
    names = re.compile(r"(^|/)(\.env|\.netrc|\.pypirc|id_(rsa|ed25519)|.*\.(pem|key|p12|jks))$")
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not names.search(name), name
        found = secret.search(path.read_bytes())
        assert found is None, f"{name}: {found[0]!r}"


@needs_git
def test_no_path_of_a_machine_is_tracked() -> None:
    home = re.compile(r"(?<![\w.~/-])/(home|Users)/[a-z_]\w*|(?<![\w.~/-])/root/\w")
    here = re.compile(rf"(?<![\w.~/-]){re.escape(str(ROOT))}(?![\w.-])")
    for path in tracked():
        text = path.read_bytes().decode("utf-8", errors="replace")
        name = path.relative_to(ROOT).as_posix()
        for pattern in (home, here):
            found = pattern.search(text)
            assert found is None, f"{name}: {found[0]}"
