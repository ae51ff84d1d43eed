"""The phantom: a synthetic patient, and the tiny nnU-Nets trained on it. For the demo and the tests only."""

from pathlib import Path

from medsegagent.phantom.patient import demo_patient, make_patient, write_patient

CARDS = Path(__file__).parent / "cards"
"""The demo models' dataset cards."""
MODELS = Path(__file__).parent / "models"
"""The demo models, in nnU-Net's results layout."""

__all__ = ["CARDS", "MODELS", "demo_patient", "make_patient", "write_patient"]
