"""Directories of every format that was ever released, and what they must answer."""
