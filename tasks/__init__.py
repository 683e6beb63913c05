"""The work, by subject; the steps of a run are in `tasks/pipeline`."""
