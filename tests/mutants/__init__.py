"""Deliberate breakages of clipsmith, each with the tests that must notice it: `python -m tests.mutants`."""
