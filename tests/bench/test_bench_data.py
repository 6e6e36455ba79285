"""Data sets from arrays and from the HDF5 files of ann-benchmarks, and their truth."""

import sys

import h5py
import numpy as np
import pytest
from bench_data import clustered, rows, unit

from vecindex.bench import from_arrays, read_hdf5
from vecindex.bench.data import Dataset, drawn, held_out
from vecindex.bench.truth import are_nearest, best_scores
from vecindex.bench.workload import parse_shares, percent
from vecindex.errors import DimensionError, InputError, MissingExtraError

TRAIN, TEST = clustered(300, seed=1), clustered(40, seed=2)
NEAREST = np.argsort(-(unit(TEST) @ unit(TRAIN).T), axis=1)[:, :20]


@pytest.fixture
def hdf5(tmp_path):
    """Write an HDF5 file of arrays, and attributes."""

    def write(distance="angular", **arrays):
        path = tmp_path / "set.hdf5"
        with h5py.File(path, "w") as file:
            if distance is not None:
                file.attrs["distance"] = distance
            for name, array in arrays.items():
                file[name] = array
        return path

    return write


def test_best_scores_are_those_of_all_rows(monkeypatch):
    monkeypatch.setattr("vecindex.bench.truth._BLOCK", 70)
    queries, matrix = unit(TEST), unit(TRAIN)
    every = np.sort(queries @ matrix.T, axis=1)[:, ::-1]
    assert np.allclose(best_scores(matrix, queries, 25), every[:, :25], atol=1e-6)
    assert np.allclose(best_scores(matrix, queries, 300), every, atol=1e-6)
    allowed = np.arange(300) % 50 == 3
    few = np.sort(queries @ matrix[allowed].T, axis=1)[:, ::-1]
    assert np.allclose(best_scores(matrix, queries, 6, allowed), few, atol=1e-6)


def test_rows_are_held_out_by_a_seed():
    data = from_arrays(TRAIN, sample=30, seed=5)
    again, other = from_arrays(TRAIN, sample=30, seed=5), from_arrays(TRAIN, sample=30, seed=6)
    assert (len(data.rows), len(data.queries)) == (270, 30)
    assert data.sha256 == again.sha256 != other.sha256
    assert np.array_equal(data.queries, again.queries)
    both = np.concatenate([data.rows, data.queries])
    assert np.allclose(np.sort(both[:, 0]), np.sort(unit(TRAIN)[:, 0]), atol=1e-6)
    assert best_scores(data.rows, data.queries, 1).max() < 1 - 1e-4  # none finds itself


def test_how_many_rows_are_held_out():
    assert [held_out(rows, 500) for rows in (2, 19, 20, 1000, 10**6)] == [1, 1, 2, 100, 500]
    assert drawn(5, 9, 0).tolist() == [0, 1, 2, 3, 4]


def test_given_queries_keep_all_rows():
    data = from_arrays(TRAIN, TEST * 3)
    assert len(data.rows) == 300
    assert np.allclose(data.queries, unit(TEST), atol=1e-6)


def test_arrays_that_cannot_be_measured():
    with pytest.raises(InputError, match="at least 2 rows"):
        from_arrays(TRAIN[:1])
    with pytest.raises(InputError, match="no queries were given"):
        from_arrays(TRAIN, TEST[:0])
    with pytest.raises(InputError, match="holds no rows"):
        from_arrays(TRAIN[:0], TEST)
    with pytest.raises(DimensionError, match="queries have dimension 3"):
        from_arrays(TRAIN, np.ones((1, 3)))


@pytest.mark.parametrize("distance", ["angular", None, b"cosine"])
def test_an_angular_files_neighbors_are_the_truth(hdf5, distance, monkeypatch):
    path = hdf5(distance, train=TRAIN, test=TEST, neighbors=NEAREST)
    data = read_hdf5(path, sample=15, seed=4)
    assert (data.name, data.notes) == ("set.hdf5", ())
    assert data.source == "15 of 40 test queries of the file"
    assert np.allclose(data.queries, unit(TEST)[drawn(40, 15, 4)], atol=1e-6)
    expected = best_scores(data.rows, data.queries, 20)
    monkeypatch.setattr("vecindex.bench.data.best_scores", lambda *_: pytest.fail("looked at all"))
    assert np.allclose(data.truth(20), expected, atol=1e-6)
    assert np.allclose(data.truth(3), expected[:, :3], atol=1e-6)
    with pytest.raises(pytest.fail.Exception):
        data.truth(21)  # the file knows 20


@pytest.mark.parametrize(
    ("distance", "neighbors", "note"),
    [
        ("euclidean", NEAREST, "distance is euclidean: rows are normalised"),
        ("angular", NEAREST[:, ::-1] + 1, "not the nearest rows by cosine"),
        ("angular", NEAREST + 1000, "not the nearest rows by cosine"),
        ("angular", NEAREST[:, [5] * 20], "not the nearest rows by cosine"),
    ],
)
def test_neighbors_that_are_not_the_truth(hdf5, distance, neighbors, note):
    lengths = np.linspace(1, 9, len(TRAIN))[:, None]
    data = read_hdf5(hdf5(distance, train=TRAIN * lengths, test=TEST, neighbors=neighbors))
    assert note in data.notes[0]
    assert data.neighbors is None
    assert np.allclose(data.rows, unit(TRAIN), atol=1e-6)
    assert np.allclose(data.truth(10), best_scores(unit(TRAIN), unit(TEST), 10), atol=1e-6)


def test_neighbors_may_be_missing(hdf5):
    data = read_hdf5(hdf5(train=TRAIN, test=TEST))
    assert (data.neighbors, data.notes) == (None, ())
    assert not are_nearest(data.rows, data.queries, NEAREST[:, :5] * 0 - 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": TRAIN}, "'test', found nothing; the file holds: train"),
        ({"test": TEST}, "'train', found nothing"),
        ({"train": TRAIN[0], "test": TEST}, r"'train', found float32 of shape \(16,\)"),
        ({"train": TRAIN[:0], "test": TEST}, r"of shape \(0, 16\)"),
        ({"train": TRAIN, "test": TEST[:, :5]}, "train has dimension 16, but test has 5"),
        ({"train": TRAIN, "test": TEST, "neighbors": NEAREST[:3]}, r"shape \(40, t\)"),
        ({"train": TRAIN, "test": TEST, "neighbors": NEAREST * 0.5}, "expected integers"),
        ({"train": np.zeros_like(TRAIN), "test": TEST}, "all zeros"),
        ({"train": TRAIN, "test": TEST, "distance": "jaccard"}, "its distance is 'jaccard'"),
        ({"train/inner": TRAIN, "test": TEST}, "'train' is a group"),
    ],
)
def test_a_wrong_file(hdf5, arrays, message):
    with pytest.raises(InputError, match=message):
        read_hdf5(hdf5(**arrays))


def test_no_file_and_no_package(tmp_path, hdf5, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_hdf5(tmp_path / "nowhere.hdf5")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(InputError, match=r"text\.hdf5: not an HDF5 file"):
        read_hdf5(tmp_path / "text.hdf5")
    path = hdf5(train=TRAIN, test=TEST)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[bench\]'"):
        read_hdf5(path)


def test_shares():
    assert parse_shares("50%, 0.1%,100%") == (0.5, 0.001, 1.0)
    assert [percent(share) for share in (0.5, 0.001, 1.0)] == ["50%", "0.1%", "100%"]
    for bad in ("50", "0%", "101%", "-3%", "%", "", "nan%", "5%,,", "x%"):
        with pytest.raises(InputError, match="is not a share"):
            parse_shares(bad)


def test_a_data_set_without_its_rows_order_has_another_hash():
    data = Dataset("x", unit(rows(9)), unit(rows(2)), "given")
    turned = Dataset("x", data.rows[::-1], data.queries, "given")
    assert data.sha256 != turned.sha256
    assert len(data.sha256) == 16
