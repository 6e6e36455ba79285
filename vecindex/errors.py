"""Every error that vecindex raises; each is also the Python class that a caller expects."""

from __future__ import annotations


class VecindexError(Exception):
    """Base of all errors raised by vecindex."""


class InputError(VecindexError, ValueError):
    """A value given by the caller cannot be used; nothing of the call was applied."""


class DimensionError(InputError):
    """Vectors have another dimension, or another shape, than the index expects."""


class VectorValueError(InputError):
    """A vector holds NaN or an infinity, or is all zeros and so has no direction."""


class IdTypeError(VecindexError, TypeError):
    """An id is neither a `str` nor a 64-bit `int`."""


class DuplicateIdError(InputError):
    """An id occurs twice in a call, or is already known to the index."""


class UnknownIdError(VecindexError, LookupError):
    """An id is not in the index."""


class MetadataError(InputError):
    """Metadata holds a key or a value that cannot be stored."""


class FilterError(InputError):
    """A `where` filter has an unknown operator, or an operand that cannot be compared."""


class SpecError(InputError):
    """An unknown structure, or a parameter that this structure does not have."""


class IndexPathError(VecindexError, OSError):
    """A path that is not an index, or that cannot become one."""


class IndexLockedError(VecindexError, BlockingIOError):
    """Another writer holds the index; the message names its process and host."""


class ReadOnlyError(VecindexError, PermissionError):
    """A write was asked of an index that was opened for reading."""


class ClosedIndexError(VecindexError, ValueError):
    """The index was closed."""


class CorruptIndexError(VecindexError, OSError):
    """Stored bytes are not what was written; the message names the file and the offset."""


class FormatVersionError(VecindexError, OSError):
    """The index was written by a newer format than this version reads."""


class StorageFullError(VecindexError, OSError):
    """The storage has no room left; the state before the call stands."""


class StorageFailedError(VecindexError, OSError):
    """The storage refused a write; when this handle cannot go on, the message says to reopen it."""


class EmbedderError(VecindexError, RuntimeError):
    """An embedder is missing, cannot be loaded, or returned something unusable."""


class EmbedderMismatchError(EmbedderError, ValueError):
    """The embedder is not the one whose embeddings the index holds."""


class HubError(VecindexError, OSError):
    """The Hugging Face Hub refused, or cannot be reached."""


class MissingExtraError(VecindexError, ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """Return the error that says how to install the extra which brings `package`."""
    return MissingExtraError(
        f"{package} is not installed. Install it with: pip install 'vecindex[{extra}]'"
    )
