"""Dependencies point one way: a room may call any room below it, never one above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medsegagent

ROOT = Path(medsegagent.__file__).parent
TIERS = (
    ("cli",),
    ("agents",),
    ("road",),
    ("evaluation",),
    ("prompting",),
    ("export",),
    ("reporting",),
    ("fusion",),
    ("engines",),
    ("planning",),
    ("matching",),
    ("models",),
    ("language", "cards"),
    ("phantom",),
    ("images", "vocabulary"),
    ("files", "free_memory", "untrusted", "wording"),
    ("errors",),
)
LEVEL = {room: level for level, tier in enumerate(TIERS) for room in tier}
"""0 is the top."""


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "medsegagent" and len(parts) > 1 and parts[1] in LEVEL else None


def files() -> list[Path]:
    return sorted(file for file in ROOT.rglob("*.py") if file.parent != ROOT or file.stem in LEVEL)


def test_every_room_has_its_place() -> None:
    rooms = {entry.name for entry in ROOT.iterdir() if (entry / "__init__.py").exists()}
    assert rooms <= LEVEL.keys()


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_arrow_runs_up(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    upward = {module for module in imports(file) if (other := room_of(module)) and LEVEL[other] < LEVEL[room]}
    assert not upward


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("autogen_agentchat", {"agents"}),
        ("autogen_core", {"agents"}),
        ("autogen_ext", {"agents"}),
        ("openai", {"agents"}),
        ("torch", {"engines", "phantom", "prompting"}),
        ("nnunetv2", {"engines", "phantom", "prompting"}),
        ("typer", {"cli"}),
    ],
)
def test_a_framework_stays_in_its_room(package: str, rooms: set[str]) -> None:
    used = {
        file.relative_to(ROOT).parts[0].removesuffix(".py")
        for file in files()
        if any(module.split(".")[0] == package for module in imports(file))
    }
    assert used <= rooms


def test_the_check_would_see_an_upward_arrow() -> None:
    assert LEVEL["cli"] < LEVEL["agents"] < LEVEL["road"] < LEVEL["engines"] < LEVEL["errors"]
    assert room_of("medsegagent.road.run") == "road"
