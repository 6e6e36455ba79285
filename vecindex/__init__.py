"""vecindex: an embedded vector index for Python over FAISS."""
