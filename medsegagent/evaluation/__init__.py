"""Evaluation of model selection (metrics, a crash-safe engine, results as JSON and as a page) and of masks."""
