"""Language models as a second mind: configuration, the way to an endpoint, and what is asked and checked."""
