"""How people reach the flows: the command line."""
