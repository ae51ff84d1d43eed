"""The patterns that an evaluation can compare on a language model."""
