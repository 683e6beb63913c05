"""How a cached step runs: its cache key, lock, time limit, cost, progress and log."""
