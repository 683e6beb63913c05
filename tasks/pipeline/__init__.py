"""The steps of a run, one module each: plain functions, with a thin cached Prefect task at the bottom."""
