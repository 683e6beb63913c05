"""Files with which others run a release: Triton repositories, scripts, README.md, and the bench's evaluation set."""
