"""How people reach the flows: the command line, and the Prefect server with its deployments."""
