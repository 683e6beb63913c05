"""Two releases measured again, side by side: accuracy on the same samples, latency in turns."""
