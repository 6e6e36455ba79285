"""Worked examples; each runs as `python -m vecindex.examples.<name>`."""
