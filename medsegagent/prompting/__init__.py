"""Correcting masks by prompts: promptable models, who chooses the prompts, and what came of it."""
