"""The documents do not lie about what can be looked up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.measures import ALL
from serving.catalog import RELATIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
LINK = re.compile(r"\]\(([^)#:]+)\)")
FOLDERS = "dags|schemas|streaming|batch|serving|infra|tests|docs|examples|bootstrap"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")


def test_there_are_documents() -> None:
    assert {"README.md", "ARCHITECTURE.md", "CHANGELOG.md"} <= {file.name for file in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        assert (document.parent / link).exists(), link
    made = ("examples/flights/data",)
    for path in PATH.findall(text):
        assert path in made or (ROOT / path).exists(), path


def test_architecture_stays_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 200


def test_every_verb_is_told() -> None:
    told = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    helped = subprocess.run(
        [sys.executable, "-m", "infra", "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = re.findall(r"^  ([\w-]+)  ", helped, re.MULTILINE)
    assert len(verbs) >= 7
    for verb in verbs:
        assert f"| `{verb}" in told, verb


def test_every_aggregate_is_told() -> None:
    told = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    assert len(ALL) >= 6
    for name in ALL:
        assert f"`{name}" in told, name


def test_every_route_is_told() -> None:
    told = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    source = (ROOT / "serving" / "front" / "api.py").read_text(encoding="utf-8")
    routes = re.findall(r"Route\(\s*\"(/[^\"{]*)", source)
    assert len(routes) >= 5
    for route in routes:
        assert route.rstrip("/") in told, route


def test_every_relation_of_the_schema_is_told() -> None:
    told = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    assert len(RELATIONS) >= 9
    for relation in RELATIONS:
        assert f"`{relation}`" in told or f"`everview.{relation}`" in told, relation
