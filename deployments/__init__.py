"""How people reach the flows: the command line, and what Prefect is told."""
