"""What others are given to run a release: Triton repositories, scripts by hand, and the bench's evaluation set."""
