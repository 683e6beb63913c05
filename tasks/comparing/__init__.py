"""Measuring two releases again, side by side: accuracy on the same samples, and interleaved latency."""
