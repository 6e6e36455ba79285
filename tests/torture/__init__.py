"""Torture: crashes, faults and damage, many at a time; see `python -m tests.torture --help`."""
