"""Who chooses the next prompt."""
