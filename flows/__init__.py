"""How steps are wired: parameters and the flows."""
