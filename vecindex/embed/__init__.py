"""From texts to vectors: the embedder protocol, its providers and the fingerprint."""

from vecindex.embed.cache import CachedEmbedder
from vecindex.embed.fingerprint import CANARIES, MIN_COSINE, Fingerprint, check_same
from vecindex.embed.function import FunctionEmbedder
from vecindex.embed.hf_api import HuggingFaceEmbedder
from vecindex.embed.local import SentenceTransformerEmbedder
from vecindex.embed.openai_api import OpenAIEmbedder
from vecindex.embed.protocol import Embedder, Progress, is_embedder
from vecindex.embed.resolve import PROVIDERS, from_manifest, resolve
from vecindex.embed.static import StaticEmbedder
from vecindex.embed.transformer import TransformersEmbedder
from vecindex.embed.words import WordVectors

__all__ = [
    "Embedder",
    "Progress",
    "is_embedder",
    "SentenceTransformerEmbedder",
    "TransformersEmbedder",
    "StaticEmbedder",
    "WordVectors",
    "FunctionEmbedder",
    "HuggingFaceEmbedder",
    "OpenAIEmbedder",
    "CachedEmbedder",
    "PROVIDERS",
    "resolve",
    "from_manifest",
    "Fingerprint",
    "check_same",
    "CANARIES",
    "MIN_COSINE",
]
