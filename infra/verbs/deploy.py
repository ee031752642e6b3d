"""Register the project's definitions: all of them, or none where one cannot be.

Airflow is told of them too: their schedules, which are not registered, may have changed.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from infra import dags, deployment, settings
from infra.deployment import Plan
from schemas import project


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="only say what would change")


def run(found: argparse.Namespace) -> int:
    chosen = settings.load(found.project, os.environ)
    loaded = project.load(found.project)
    dags.check(chosen, loaded)
    if found.plan:
        plan = deployment.plan(loaded, found.state)
        show(plan)
        return 1 if plan.refused else 0
    plan = deployment.deploy(loaded, found.state, datetime.now(UTC))
    dags.write(found.state, found.project, chosen, loaded)
    show(plan)
    if plan.registers:
        print(f"registered in {found.state}")
    return 0


def show(plan: Plan) -> None:
    if not plan.changes:
        print("nothing differs from what is registered")
    for change in plan.changes:
        stays = " (it stays registered)" if change.what == "not in the project" else ""
        print(f"{change}{stays}")
        if change.refused:
            print(f"    cannot be registered: {change.refused}")
        elif change.needs:
            print(f"    {change.needs}")
