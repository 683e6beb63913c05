"""What a release says: measurements, gates, regressions, comparisons, and its tables as data frames."""
