"""Measurements of vecindex itself; run with `python -m benchmarks.<name>`."""
