"""The README of a repository on the Hub: what it holds, and how to load it."""

from __future__ import annotations

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")

_ROWS = """\
---
tags:
- vecindex
- embeddings
- semantic-search
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: {data}
---

# {name}

{count} rows with their embeddings, from a [vecindex](https://pypi.org/project/vecindex/) index.

| | |
|---|---|
| rows | {count} |
| dimension | {dim} |
| model | {model} |

Columns: `id`, `text`, `metadata` (JSON text), `embedding` (float32, of length 1, so that inner
products are cosines).

```python
from datasets import load_dataset

rows = load_dataset("{repo_id}", split="train")
```

To search them:

```python
from vecindex import VectorIndex

index = VectorIndex.from_dataset("{name}.vx", rows, metadata=["metadata.*"]{embedder})
index.search({query}, k=5)
```
"""

_INDEX = """\
---
tags:
- vecindex
- embeddings
- semantic-search
viewer: false
---

# {name}

A finished [vecindex](https://pypi.org/project/vecindex/) index of {count} rows.

| | |
|---|---|
| rows | {count} |
| dimension | {dim} |
| model | {model} |

```python
from vecindex import VectorIndex

index = VectorIndex.from_hub("{repo_id}", "{name}.vx")
index.search({query}, k=5)
```
"""


def rows_card(repo_id: str, count: int, dim: int | None, embedder: str | None, data: str) -> str:
    """Return the card of a data set of rows.

    Parameters
    ----------
    repo_id : str
        As in `"user/name"`.
    count : int
        Number of rows.
    dim : int or None
        Dimension of the embeddings, None without rows.
    embedder : str or None
        The embedder's name in the index, as in `"st:org/model"`.
    data : str
        The file with the rows, in the repository.

    Returns
    -------
    str
        Markdown with YAML before it.
    """
    size = _SIZES[max(0, min(len(str(count)) - 3, len(_SIZES) - 1))]
    known = _known(embedder)
    return _ROWS.format(
        data=data,
        size=size,
        embedder=f', embedder="{known}"' if known else "",
        **_facts(repo_id, count, dim, embedder),
    )


def index_card(repo_id: str, count: int, dim: int | None, embedder: str | None) -> str:
    """Return the card of a finished index; parameters as for `rows_card`."""
    return _INDEX.format(**_facts(repo_id, count, dim, embedder))


def _facts(repo_id: str, count: int, dim: int | None, embedder: str | None) -> dict[str, str]:
    known = _known(embedder)
    unknown = "not known" if embedder is None else "a function or a directory, not named here"
    return {
        "repo_id": repo_id,
        "name": repo_id.rpartition("/")[2],
        "count": f"{count:,}",
        "dim": "not known yet" if dim is None else str(dim),
        "model": f"`{known}`" if known else unknown,
        "query": '"a question"' if known else "a_vector",
    }


def _known(embedder: str | None) -> str | None:
    """Return the embedder's name if it means something elsewhere: no function, no directory."""
    provider, _, model = (embedder or "").partition(":")
    return None if provider in ("", "function") or model.startswith("/") else embedder
