"""What serves a release: Triton model repositories, and scripts that repeat its steps by hand."""
