"""FAISS files of others: vectors are found where FAISS put them, and no file does harm."""

from __future__ import annotations

import struct
from pathlib import Path

import faiss
import numpy as np
import pytest

from vecindex.ann.interchange import Located, locate
from vecindex.errors import CorruptIndexError, InputError

ROWS = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).permutation(300) * 7
IP, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


def ivf(lists: int = 4, metric: int = L2, quantizer: object = None) -> faiss.IndexIVFFlat:
    index = faiss.IndexIVFFlat(quantizer or faiss.IndexFlat(8, metric), 8, lists, metric)
    index.cp.min_points_per_centroid = 1
    index.train(ROWS)
    return index


def mapped_ivf(kind: int) -> faiss.IndexIVFFlat:
    index = ivf()
    index.set_direct_map_type(kind)
    return index


PLAIN = {
    "flat ip": lambda: faiss.IndexFlatIP(8),
    "flat l2": lambda: faiss.IndexFlatL2(8),
    "hnsw ip": lambda: faiss.IndexHNSWFlat(8, 4, IP),
    "hnsw l2": lambda: faiss.IndexHNSWFlat(8, 4, L2),
    "ivf": ivf,
    "ivf ip": lambda: ivf(metric=IP),
    "ivf array map": lambda: mapped_ivf(faiss.DirectMap.Array),
    "ivf hashtable": lambda: mapped_ivf(faiss.DirectMap.Hashtable),
    "ivf over hnsw": lambda: ivf(8, quantizer=faiss.IndexHNSWFlat(8, 4)),
}


def written(index: object, path: Path) -> Path:
    faiss.write_index(index, str(path))
    return path


def vectors(found: Located, size: int = 64) -> np.ndarray:
    return np.concatenate(list(found.batches(size)))


@pytest.mark.parametrize("name", PLAIN)
def test_vectors_come_in_the_order_of_their_labels(name: str, tmp_path: Path) -> None:
    index = PLAIN[name]()
    index.add(ROWS)
    found = locate(written(index, tmp_path / "a.faiss"))
    assert (len(found), found.dim, found.labels) == (300, 8, None)
    assert np.array_equal(vectors(found), ROWS)


@pytest.mark.parametrize("kind", [faiss.IndexIDMap, faiss.IndexIDMap2])
@pytest.mark.parametrize("name", PLAIN)
def test_the_ids_of_an_id_map_are_labels(name: str, kind: type, tmp_path: Path) -> None:
    inner = PLAIN[name]()
    index = kind(inner)
    index.add_with_ids(ROWS, LABELS)
    found = locate(written(index, tmp_path / "a.faiss"))
    assert np.array_equal(found.labels, LABELS)
    assert np.array_equal(vectors(found), ROWS)


def test_labels_of_lists_rise(tmp_path: Path) -> None:
    index = ivf()
    index.add_with_ids(ROWS, LABELS)
    found = locate(written(index, tmp_path / "a.faiss"))
    assert np.array_equal(found.labels, np.sort(LABELS))
    assert np.array_equal(vectors(found), ROWS[np.argsort(LABELS)])


def test_most_lists_are_empty(tmp_path: Path) -> None:
    index = ivf(64)
    index.add(ROWS[:3])
    found = locate(written(index, tmp_path / "a.faiss"))
    assert np.array_equal(vectors(found), ROWS[:3])


@pytest.mark.parametrize("name", PLAIN)
def test_no_vectors(name: str, tmp_path: Path) -> None:
    found = locate(written(PLAIN[name](), tmp_path / "a.faiss"))
    assert (len(found), found.dim, list(found.batches(5))) == (0, 8, [])


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("PQ4x4", "IndexPQ, which keeps codes"),
        ("SQ8", "IndexScalarQuantizer"),
        ("HNSW4,SQ8", "IndexHNSWSQ"),
        ("IVF4,PQ4x4fs", "IndexIVFPQFastScan"),
        ("PCA4,Flat", "IxPT"),
        ("PQ4x4,RFlat", "IxRF"),
    ],
)
def test_what_holds_no_plain_vectors(factory: str, message: str, tmp_path: Path) -> None:
    index = faiss.index_factory(8, factory)
    index.train(np.repeat(ROWS, 2, axis=0))
    index.add(ROWS)
    with pytest.raises(InputError, match=f"a.faiss: .*{message}.*Taken in are IndexFlatIP"):
        locate(written(index, tmp_path / "a.faiss"))


def test_other_measures_and_other_places(tmp_path: Path) -> None:
    other = faiss.IndexHNSWFlat(8, 4, faiss.METRIC_L1)
    with pytest.raises(InputError, match="compares by metric 2"):
        locate(written(other, tmp_path / "a.faiss"))
    index = ivf()
    lists = faiss.OnDiskInvertedLists(4, 32, str(tmp_path / "elsewhere"))
    index.replace_invlists(lists)
    index.add(ROWS)
    with pytest.raises(InputError, match=r"inverted lists .*ilod.* are not in this file"):
        locate(written(index, tmp_path / "a.faiss"))
    nested = faiss.IndexIDMap(faiss.IndexIDMap(faiss.IndexFlatIP(8)))
    with pytest.raises(InputError, match="IxMp"):
        locate(written(nested, tmp_path / "a.faiss"))


@pytest.mark.parametrize("name", ["flat ip", "hnsw l2", "ivf", "ivf hashtable"])
def test_damaged_files_are_refused_or_have_the_promised_shape(name: str, tmp_path: Path) -> None:
    index = faiss.IndexIDMap(PLAIN[name]())
    index.add_with_ids(ROWS[:40], LABELS[:40])
    path = written(index, tmp_path / "a.faiss")
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    cuts = [good[:size] for size in rng.integers(0, len(good), 60)]
    structural = [at for at in range(len(good)) if at < 700 or at > len(good) - 700]
    mutated = []
    for at in rng.choice(structural, 400):
        data = bytearray(good)
        data[at : at + 8] = struct.pack("<q", int(rng.choice([-1, 1 << 40, 1 << 62, 7, 255])))
        mutated.append(bytes(data[: len(good)]))
    refused = 0
    for data in [*cuts, good + b"x", *mutated]:
        path.write_bytes(data)
        try:
            found = locate(path)
            assert vectors(found).shape == (40, 8)
        except (InputError, CorruptIndexError) as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 60


def test_lengths_that_contradict_each_other(tmp_path: Path) -> None:
    index = faiss.IndexIDMap(faiss.IndexFlatIP(8))
    index.add_with_ids(ROWS[:40], LABELS[:40])
    path = written(index, tmp_path / "a.faiss")
    good = path.read_bytes()
    ids = len(good) - 8 * 40 - 8
    for data, message in (
        (good + b"x", "the index ends here"),
        (good[:8] + struct.pack("<q", 39) + good[16:], "40 vectors of 8, but 39 of 8 were said"),
        (good[:ids] + struct.pack("<q", 39) + good[ids + 16 :], "39 ids for 40 vectors"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorruptIndexError, match=message):
            locate(path)


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(8)
    index.add(ROWS)
    path = written(index, tmp_path / "a.faiss")
    found = locate(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(CorruptIndexError, match="was cut"):
        vectors(found)
