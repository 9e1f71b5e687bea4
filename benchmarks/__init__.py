"""Measured figures: `python -m benchmarks [group]` prints one JSON line each."""
