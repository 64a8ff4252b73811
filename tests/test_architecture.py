"""Who may import whom, and other laws of the house: the map a reader looks at first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = {"django", "rest_framework", "celery", "redis", "psycopg", "unfold"}
APPS = {"cohorts", "rollout", "config", "edge", "local"}

MAY_NOT_IMPORT = {
    "huidu": PLATFORM | APPS,
    "huidu/engine": {"huidu.stats", "huidu.promotion", "huidu.sdk", "huidu.wire"},
    "huidu/wire": {"huidu.stats", "huidu.promotion", "huidu.sdk"},
    "huidu/stats": {"huidu.engine", "huidu.promotion", "huidu.sdk", "huidu.wire"},
    "huidu/promotion": {"huidu.engine", "huidu.sdk", "huidu.wire"},
    "huidu/sdk": {"huidu.stats", "huidu.promotion"},
    "edge": (PLATFORM - {"redis"}) | (APPS - {"edge"}),
    "cohorts": {"rollout", "edge"},
    "cohorts/models": {"cohorts.services", "cohorts.api", "cohorts.admin", "cohorts.tasks"},
    "cohorts/services": {"celery", "rest_framework", "cohorts.tasks", "cohorts.api", "unfold"},
    "rollout": {"edge"},
    "rollout/models": {"rollout.services", "rollout.api", "rollout.admin", "rollout.tasks"},
    "rollout/services": {"celery", "rest_framework", "rollout.tasks", "rollout.api", "unfold"},
    "rollout/api": {"rollout.tasks", "rollout.admin"},
    "local": {"edge"},
}
MOST_LINES = {"tests": 650, "bench": 500}
"""Elsewhere 400; a table of cases or one benchmark may be longer."""
OURS = ("huidu", "edge", "cohorts", "rollout", "config", "local")


def files_of(folder: str) -> Iterator[Path]:
    """Our own code; migrations are made by a tool."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "migrations" not in path.parts:
            yield path


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions and under TYPE_CHECKING."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            # "from rollout import tasks" imports rollout.tasks.
            yield from (f"{module}.{each.name}" for each in node.names)


def calls_of(path: Path, name: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node.lineno


@pytest.mark.parametrize("folder", MAY_NOT_IMPORT)
def test_imports_only_run_downhill(folder: str) -> None:
    offences = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(folder)
        for name in imports_of(path)
        for banned in MAY_NOT_IMPORT[folder]
        if f"{name}.".startswith(f"{banned}.")
    ]
    assert not offences, "\n".join(offences)


def test_every_folder_of_the_map_exists() -> None:
    assert [folder for folder in MAY_NOT_IMPORT if not any(files_of(folder))] == []


@pytest.mark.parametrize("folder", [*OURS, "tests", "bench"])
def test_a_file_holds_one_idea(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files_of(folder)
        if (lines := len(path.read_text().splitlines())) > MOST_LINES.get(folder, 400)
    }
    assert not long


@pytest.mark.parametrize("folder", ["huidu/engine", "cohorts/services", "rollout/services"])
def test_services_do_not_print(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files_of(folder)
        for line in calls_of(path, "print")
    ]
    assert not found


@pytest.mark.parametrize("folder", ["cohorts", "rollout", "config"])
def test_nothing_happens_behind_a_services_back(folder: str) -> None:
    """No signals and no `save` overrides: what a change does stands in its service."""
    found = []
    for path in files_of(folder):
        if any(name.startswith("django.db.models.signals") for name in imports_of(path)):
            found.append(f"{path.relative_to(ROOT)} imports signals")
        if "models" not in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.FunctionDef) and node.name in ("save", "delete"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} overrides {node.name}")
    assert not found


def test_every_python_file_says_what_it_is_for() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for folder in OURS
        for path in files_of(folder)
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not bare
