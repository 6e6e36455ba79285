"""CRC-32 as zlib computes it, by zlib-ng where it is installed: the same numbers ten times as fast.

Every byte of an index is checked when it is first read, and counted when it is written, so this is
a part of each load and of each first search.
"""

from __future__ import annotations

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # there is no build of it for this machine
    from zlib import crc32

__all__ = ["crc32"]
