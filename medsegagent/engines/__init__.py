"""What runs models: one engine per kind, behind one protocol (`medsegagent.engines.base.Engine`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from medsegagent.engines.base import Engine

Engines = Mapping[str, Engine]
"""Kind -> the engine that runs models of that kind."""


def shipped_engines(keep_bytes: int = 0) -> Engines:
    """One engine of each kind that comes with the package.

    Args:
        keep_bytes: How much of the models each of them keeps in memory; the last one loaded always stays.
    """
    from medsegagent.engines.nnunet.engine import NnunetEngine

    return by_kind([NnunetEngine(keep_bytes)])


def by_kind(engines: Iterable[Engine]) -> Engines:
    """The engines as a table."""
    return {engine.kind: engine for engine in engines}
