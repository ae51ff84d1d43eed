"""Shared by the LLM room's tests: nothing is read from, or left in, the user's own configuration and cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Behaviour, Loopback


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OAI_CONFIG_LIST", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("medsegagent.agents.llm.cache.cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def serve() -> Iterator[Callable[..., Loopback]]:
    """Start servers that end with the test."""
    started: list[Loopback] = []

    def start(behaviour: Behaviour, **how: Any) -> Loopback:
        server = Loopback(behaviour, **how)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put entries into the environment's OAI_CONFIG_LIST."""

    def put(*entries: dict[str, Any]) -> None:
        monkeypatch.setenv("OAI_CONFIG_LIST", json.dumps(entries))

    return put
