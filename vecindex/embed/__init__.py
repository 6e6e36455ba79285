"""From texts to vectors: the embedder protocol, its providers and the fingerprint."""

from vecindex.embed.fingerprint import CANARIES, MIN_COSINE, Fingerprint, check_same
from vecindex.embed.function import FunctionEmbedder
from vecindex.embed.local import SentenceTransformerEmbedder
from vecindex.embed.protocol import Embedder, Progress, is_embedder
from vecindex.embed.resolve import PROVIDERS, from_manifest, resolve

__all__ = [
    "Embedder",
    "Progress",
    "is_embedder",
    "SentenceTransformerEmbedder",
    "FunctionEmbedder",
    "PROVIDERS",
    "resolve",
    "from_manifest",
    "Fingerprint",
    "check_same",
    "CANARIES",
    "MIN_COSINE",
]
