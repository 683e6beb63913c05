"""The GPU and whose turn it is: what the driver sees, whether the GPU is fit to be timed, one benchmark at a time."""
