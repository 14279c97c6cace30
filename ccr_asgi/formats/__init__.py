"""The wire formats, by their kind."""
