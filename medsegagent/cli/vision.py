"""The vision model that the configuration names, and who may refine a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medsegagent.errors import ConfigError

if TYPE_CHECKING:
    from medsegagent.prompting.policies.vision import VisionEndpoint
    from medsegagent.prompting.wanted import RefineKind, Refinement, Wanted


def vision_endpoint(config: Path | None, *, send_images: bool) -> VisionEndpoint:
    """The first model of the configuration that is tagged "vision", else the first.

    Raises:
        ConfigError: If none is configured.
        UsageError: If pixels would leave this machine or its private network without consent.
    """
    from medsegagent.agents.llm.config import load_endpoints
    from medsegagent.prompting.policies.vision import VisionEndpoint

    endpoints = load_endpoints(config)
    if not endpoints:
        raise ConfigError("no vision model is configured", "Give --config, or set OAI_CONFIG_LIST: docs/llm.md.")
    first = next((item for item in endpoints if "vision" in item.tags), endpoints[0])
    key = first.key().get_secret_value() if first.key_is_set else ""
    endpoint = VisionEndpoint(first.model, first.base_url, key, send_images or first.is_local, first.timeout)
    endpoint.require_consent()
    return endpoint


def refinement_from(kind: RefineKind, wanted: Wanted, config: Path | None, *, send_images: bool) -> Refinement:
    """Settle who refines a run.

    Raises:
        ConfigError: If a vision model is needed and none is configured.
        UsageError: If pixels would be sent without consent.
    """
    from medsegagent.prompting.wanted import Refinement

    endpoint = vision_endpoint(config, send_images=send_images) if kind == "llm" else None
    return Refinement(kind, wanted, endpoint=endpoint)
