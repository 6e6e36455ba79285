"""Data sets and indexes on the Hub: the real client against a server on 127.0.0.1."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
from hub_server import TOKEN, Hub, serve_hub
from huggingface_hub import constants

from vecindex import VectorIndex
from vecindex.errors import (
    ClosedIndexError,
    CorruptIndexError,
    EmbedderError,
    HubError,
    IndexPathError,
    InputError,
    MissingExtraError,
)
from vecindex.io import hub as hub_module
from vecindex.store.frames import MANIFEST, decode, encode

# The client's own: it gives LFS uploads to its HTTP library in a way that this calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROWS = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
IDS = [f"id {number}" for number in range(60)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    with VectorIndex.create(tmp_path / "kb.vx", spec="flat/pq4", maintenance="manual") as made:
        made.add(
            vectors=ROWS, ids=IDS, texts=[f"text {i}" for i in range(60)],
            metadata=[{"n": i} for i in range(60)],
        )  # fmt: skip
        made.optimize()
        made.remove(IDS[:5])
        made.add(vectors=ROWS[:2], ids=["new", "newer"], texts=["a", None])
        yield made


def answers(index: VectorIndex) -> list[list[tuple[object, float, str | None, object]]]:
    return [
        [(hit.id, hit.score, hit.text, hit.metadata) for hit in hits]
        for hits in index.search(ROWS, k=7)
    ]


def test_an_index_comes_back_with_the_same_answers(
    hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    address = index.push_index_to_hub("me/kb", token=TOKEN)
    assert address.startswith(hub.address)
    assert hub.repos["me/kb"].private
    assert any("/blobs/" in asked for asked in hub.asked), "the large files go by LFS"
    with VectorIndex.from_hub("me/kb", tmp_path / "new" / "copy.vx", token=TOKEN) as copy:
        assert answers(copy) == answers(index)
        assert copy.info().calibration == index.info().calibration
        assert copy.verify().ok
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.vx"]
    ours = {path.name for path in (tmp_path / "new" / "copy.vx").iterdir()}
    assert ours == set(hub.sizes("me/kb")) - {"README.md"}


def test_rows_come_back_bit_for_bit(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    index.push_to_hub("me/rows", private=False, token=TOKEN)
    assert set(hub.sizes("me/rows")) == {"README.md", "data/train.parquet"}
    file = huggingface_hub.hf_hub_download("me/rows", "data/train.parquet", repo_type="dataset")
    table = pq.read_table(io.BytesIO(Path(file).read_bytes()))
    assert table.column("id").to_pylist() == [*IDS[5:], "new", "newer"]
    vectors = np.array(table.column("embedding").to_pylist(), dtype=np.float32)
    stored = np.stack([record.vector for record in index.scan(vectors=True)])
    assert vectors.tobytes() == stored.tobytes()
    with VectorIndex.create(tmp_path / "again.vx") as again:
        again.add(vectors=vectors, ids=table.column("id").to_pylist())
        back = np.stack([record.vector for record in again.scan(vectors=True)])
    assert np.abs(back - stored).max() == 0


def test_the_card_says_what_is_there(hub: Hub, tmp_path: Path) -> None:
    def embedder(texts: list[str]) -> list[list[float]]:
        return [[len(text), 1.0] for text in texts]

    with VectorIndex.create(tmp_path / "a.vx", embedder=embedder) as index:
        index.add(texts=["one", "three"])
        index.push_to_hub("me/a", token=TOKEN)
        index.push_index_to_hub("me/b", token=TOKEN)
    card = huggingface_hub.DatasetCard(hub.repos["me/a"].files["README.md"].decode())
    assert card.data.to_dict()["configs"][0]["data_files"][0]["path"] in hub.repos["me/a"].files
    assert card.data.size_categories == ["n<1K"]
    for expected in ("| rows | 2 |", "| dimension | 2 |", "a function or a directory"):
        assert expected in card.text
    assert 'load_dataset("me/a", split="train")' in card.text
    assert 'VectorIndex.from_dataset("a.vx", rows' in card.text
    other = huggingface_hub.DatasetCard(hub.repos["me/b"].files["README.md"].decode())
    assert 'VectorIndex.from_hub("me/b", "b.vx")' in other.text


def test_a_second_push_takes_away_what_the_first_left(
    hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    hub.repos["me/kb"].files["notes.txt"] = b"mine"
    before = set(hub.sizes("me/kb"))
    index.compact()
    index.push_index_to_hub("me/kb", token=TOKEN)
    left = set(hub.sizes("me/kb"))
    assert "notes.txt" in left
    assert {name for name in before - left if name.startswith("rows-")}
    with VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", "r+", token=TOKEN) as copy:
        assert answers(copy) == answers(index)
        copy.add(vectors=ROWS[:1], ids=["one more"])
    assert not (tmp_path / "copy.vx" / "notes.txt").exists()


def test_the_token_is_neither_stored_nor_shown(
    hub: Hub, index: VectorIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN).close()
    with pytest.raises(HubError) as refused:
        index.push_index_to_hub("me/kb", token="hf_wrong_one")
    assert "401" in str(refused.value)
    assert "hf_wrong_one" not in repr(refused.value) + capsys.readouterr().err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert not [name for name, data in hub.repos["me/kb"].files.items() if TOKEN.encode() in data]


@pytest.mark.parametrize(
    "token", ["hf_secret\n\thf_secret", "hf_secret\0", "hf_sécret", " ", b"hf_s"]
)
def test_what_is_no_token_is_not_shown(
    token: str, hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    for call in (
        lambda: index.push_to_hub("me/kb", token=token),
        lambda: index.push_index_to_hub("me/kb", token=token),
        lambda: VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=token),
    ):
        with pytest.raises(InputError, match="the token is not one") as refused:
            call()
        shown = "".join(traceback.format_exception(refused.value))
        assert "cret" not in shown.replace("{token", "")
    assert hub.asked == []


def test_blanks_around_a_token_do_not_matter(hub: Hub, index: VectorIndex) -> None:
    assert index.push_to_hub("me/kb", token=f"{TOKEN}\n").startswith(hub.address)


def test_arguments_are_looked_at_first(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    hub.asked.clear()
    with pytest.raises(InputError, match="mode must be"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", "w", token=TOKEN)
    with pytest.raises(EmbedderError, match="unknown provider"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN, embedder="none:such")
    assert hub.asked == []
    assert not (tmp_path / "copy.vx").exists()


def test_the_newest_state_is_pushed_by_an_older_reader(
    hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    with VectorIndex.open(index.path) as reader:
        index.remove(IDS[:30])
        reader.push_index_to_hub("me/kb", token=TOKEN)
        assert len(reader) == 57
    assert b"| rows | 32 |" in hub.repos["me/kb"].files["README.md"]
    with VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN) as copy:
        assert len(copy) == 32


def test_a_log_that_a_fold_removes_meanwhile(
    hub: Hub, index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hub_module.copy_logs

    def late(*arguments: Any) -> Any:
        index.compact()
        return real(*arguments)

    monkeypatch.setattr(hub_module, "copy_logs", late)
    with pytest.raises(HubError, match=r"cannot push to me/kb: .*log-\d+\.vxl"):
        index.push_index_to_hub("me/kb", token=TOKEN)
    assert hub.repos == {}


def test_what_the_hub_refuses(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="cannot push to no/such/name"):
        index.push_to_hub("no/such/name", token=TOKEN)
    with pytest.raises(HubError, match="cannot fetch me/nothing"):
        VectorIndex.from_hub("me/nothing", tmp_path / "copy.vx")
    hub.fail["commit"] = 403
    with pytest.raises(HubError, match="cannot push to me/kb: 403"):
        index.push_to_hub("me/kb", token=TOKEN)
    assert hub.sizes("me/kb") == {}
    hub.fail.clear()
    index.push_to_hub("me/kb", token=TOKEN)
    with pytest.raises(IndexPathError, match="me/kb holds no vecindex index"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN)
    assert not (tmp_path / "copy.vx").exists()


def test_the_hub_is_gone(
    hub: Hub, index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot fetch me/kb"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx")
    assert [path.name for path in tmp_path.iterdir()] == ["kb.vx"]


def damaged(hub: Hub, index: VectorIndex, tmp_path: Path, match: str) -> None:
    with pytest.raises(CorruptIndexError, match=match):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN)
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_damage_on_the_way(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    repo = hub.repos["me/kb"]
    good = dict(repo.files)
    vectors = next(name for name in good if name.startswith("vectors-"))
    flipped = bytearray(good[vectors])
    flipped[100] ^= 1
    for changed, match in (
        ({vectors: bytes(flipped)}, "nothing was kept: vectors-.* checksum"),
        ({vectors: good[vectors][:-4]}, f"{vectors} has .* bytes, expected"),
        ({"MANIFEST": good["MANIFEST"][:-1]}, "MANIFEST is damaged"),
    ):
        repo.files = {**good, **changed}
        damaged(hub, index, tmp_path, match)
    log = next(name for name in good if name.startswith("log-"))
    for bytes_ in (b"", good[log][:-64], bytes(len(good[log]))):
        repo.files = {**good, log: bytes_}
        damaged(hub, index, tmp_path, f"{log}.* is damaged at offset")
    repo.files = {name: data for name, data in good.items() if name != vectors}
    damaged(hub, index, tmp_path, f"{vectors} is missing, though MANIFEST names it")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\evil", "./evil"])
def test_hostile_names_in_the_repository(
    name: str, hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    hub.repos["me/kb"].files[name] = b"evil"
    damaged(hub, index, tmp_path, "impossible name")


@pytest.mark.parametrize("name", ["../evil-1.vxl", "LOCK", "log-1.vxl.exe", "MANIFEST"])
def test_hostile_names_in_the_manifest(
    name: str, hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    files = hub.repos["me/kb"].files
    body = decode(np.frombuffer(files["MANIFEST"], np.uint8), 0, "MANIFEST").body
    body["logs"][-1][0] = name
    buffers, _ = encode(MANIFEST, body, sequence=1)
    files["MANIFEST"] = b"".join(buffers)
    damaged(hub, index, tmp_path, "names an impossible file")
    assert not [asked for asked in hub.asked if asked.startswith("GET") and "evil" in asked]


@pytest.mark.parametrize("forged", [{"logs": []}, {"segments": "x"}, {"spec": {"kind": "nope"}}])
def test_a_forged_manifest(
    forged: dict[str, object], hub: Hub, index: VectorIndex, tmp_path: Path
) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    files = hub.repos["me/kb"].files
    body = decode(np.frombuffer(files["MANIFEST"], np.uint8), 0, "MANIFEST").body
    buffers, _ = encode(MANIFEST, {**body, **forged}, sequence=1)
    files["MANIFEST"] = b"".join(buffers)
    damaged(hub, index, tmp_path, "MANIFEST")


def test_places_that_are_taken(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    index.push_index_to_hub("me/kb", token=TOKEN)
    (tmp_path / "copy.vx").mkdir()
    with pytest.raises(IndexPathError, match=r"copy\.vx exists"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx", token=TOKEN)


def test_a_closed_index_is_not_pushed(hub: Hub, index: VectorIndex) -> None:
    index.close()
    for push in (index.push_to_hub, index.push_index_to_hub):
        with pytest.raises(ClosedIndexError):
            push("me/kb", token=TOKEN)
    assert hub.asked == []


def test_a_missing_client(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        index.push_to_hub("me/kb")
    with pytest.raises(MissingExtraError, match="pip install"):
        VectorIndex.from_hub("me/kb", tmp_path / "copy.vx")


LOAD = """
import sys
from datasets import load_dataset
from vecindex import VectorIndex
rows = load_dataset("me/rows", split="train")
with VectorIndex.from_dataset(sys.argv[1], rows, metadata=["metadata.*"]) as index:
    print(len(index), index.get(["id 7"])[0])
"""


def test_what_the_card_says_runs(hub: Hub, index: VectorIndex, tmp_path: Path) -> None:
    index.push_to_hub("me/rows", private=False, token=TOKEN)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "again.vx")],
        env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split(maxsplit=1)[0] == "57"
    assert str(index.get(["id 7"])[0]) in run.stdout
