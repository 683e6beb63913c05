"""What is done: one module per step, in pipeline order."""
