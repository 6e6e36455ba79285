"""Images for the models that embed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.checks import embedding_rows
from vecindex.embed.libraries import library
from vecindex.errors import EmbedderError


def image_rows(
    images: Iterable[Any],
    ask: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    dim: int,
    name: str,
) -> Float32Array:
    """Return what a model makes of images.

    Parameters
    ----------
    images : iterable of PIL.Image.Image, str or Path
        Images, or files with images; of any mode.
    ask : callable
        From a list of RGB images to an array_like of shape (n, dim).
    batch_size : int
        Images that are opened at a time.
    dim : int
        Dimension of the model's embeddings.
    name : str
        The embedder, for messages.

    Returns
    -------
    ndarray of float32, shape (n, dim)
        Finite; row i belongs to image i.

    Raises
    ------
    EmbedderError
        If something is no image, or the model's output is not as `embedding_rows` expects it.
    MissingExtraError
        If Pillow is not installed.
    """
    if isinstance(images, str | Path) or not isinstance(images, Iterable):
        raise EmbedderError(f"{name} embeds a list of images, not one {type(images).__name__}")
    library("PIL.Image", "pillow", "text")
    given = list(images)
    rows = [np.empty((0, dim), dtype=np.float32)]
    for start in range(0, len(given), batch_size):
        positions = range(start, min(start + batch_size, len(given)))
        batch = [_opened(given[position], position, name) for position in positions]
        rows.append(embedding_rows(ask(batch), positions, dim, name))
    return np.concatenate(rows)


def rgb(image: Any) -> Any:
    """Return an image in mode RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode. Sixteen bits of grey become eight; where there is transparency, the colour
        below it counts.

    Returns
    -------
    PIL.Image.Image
        The image itself if it is RGB.
    """
    if image.mode.startswith("I"):  # Pillow would cut off all above 255: nearly white
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        image = library("PIL.Image", "pillow", "text").fromarray(grey)
    return image if image.mode == "RGB" else image.convert("RGB")


def _opened(image: Any, position: int, name: str) -> Any:
    pil = library("PIL.Image", "pillow", "text")
    place = f"{name} cannot embed the image at position {position}"
    try:
        if isinstance(image, str | Path):
            place += f" ({str(image)!r})"
            with pil.open(Path(image).expanduser()) as opened:
                opened.load()  # an RGB image is not read by the conversion
                return rgb(opened)
        if isinstance(image, pil.Image):
            return rgb(image)
    except Exception as error:  # a damaged file can fail in many ways
        raise EmbedderError(f"{place}: {error}") from error
    raise EmbedderError(f"{place}: expected a PIL image or a file's path, not {image!r:.80}")
