"""The GPU: what the driver sees, whether it is fit to be timed, and the lock that admits one benchmark at a time."""
