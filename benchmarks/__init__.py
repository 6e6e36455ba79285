"""Measurements of vecindex, alone and beside others; run with `python -m benchmarks.<name>`."""
