"""A pytest plugin for the mutants' runs: hypothesis looks at few examples, and at the same ones each time."""

from hypothesis import settings

settings.register_profile("mutants", derandomize=True, max_examples=10, deadline=None, database=None)
settings.load_profile("mutants")
