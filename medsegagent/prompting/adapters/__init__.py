"""Promptable models: one adapter a file."""
