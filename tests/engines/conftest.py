"""Makes `tiny_models` importable from the tests of each engine."""
