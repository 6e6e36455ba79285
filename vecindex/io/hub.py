"""Data sets and finished indexes on the Hugging Face Hub, by its own client."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vecindex.errors import (
    CorruptIndexError,
    HubError,
    IndexPathError,
    InputError,
    VecindexError,
    missing_extra,
)
from vecindex.io import cards
from vecindex.io.export import export
from vecindex.io.rows import Rows
from vecindex.results import VerifyReport
from vecindex.store.files import Directory
from vecindex.store.manifest import NAME, manifest_bytes, read_manifest
from vecindex.store.snapshot import copy_logs
from vecindex.store.store import OURS, Store

_KIND = "dataset"  # of repository, for rows and for finished indexes
_DATA = "data/train.parquet"
_README = "README.md"
_TOKEN = re.compile(r"[!-~]+")  # what a header can hold; the client's error would show another
_HOSTILE = re.compile(r"(^|/)\.{0,2}(/|$)|[\\\x00-\x1f]")  # absolute, empty or dotted parts


def push_rows(
    index: Rows, repo_id: str, embedder: str | None, *, private: bool, token: str | None
) -> str:
    """Put the live rows, with their vectors, into a data set repository in one commit.

    Parameters
    ----------
    index : Rows
        An open index.
    repo_id : str
        As in `"user/name"`; the repository is made if there is none.
    embedder : str or None
        Under which the index stores it, for the card.
    private : bool
        Who may see a repository that is made.
    token : str or None
        None takes the one that the client finds in its environment.

    Returns
    -------
    str
        The commit's address.

    Raises
    ------
    HubError
        If the Hub refuses or cannot be reached.
    InputError
        If the ids are both strings and integers, or the token is not one.
    MissingExtraError
        If huggingface_hub or pyarrow is not installed.
    """
    api = _api(token)
    with tempfile.TemporaryDirectory(prefix="vecindex-") as folder:
        file = Path(folder) / "rows.parquet"
        count = export(index, file, vectors=True)
        with _hub(f"cannot push to {repo_id}"):
            repo_id = _repository(api, repo_id, private)
            card = cards.rows_card(repo_id, count, index.dim, embedder, _DATA)
            return _commit(api, repo_id, {_DATA: file, _README: card.encode()}, "Upload rows")


def push_index(
    index: Rows, repo_id: str, embedder: str | None, *, private: bool, token: str | None
) -> str:
    """Put an index's directory, as of now, into a repository in one commit.

    Parameters
    ----------
    index : Rows
        An open index.
    repo_id : str
        As for `push_rows`.
    embedder : str or None
        As for `push_rows`.
    private : bool
        As for `push_rows`.
    token : str or None
        As for `push_rows`.

    Returns
    -------
    str
        The commit's address.

    Raises
    ------
    HubError
        If the Hub refuses or cannot be reached, or a writer's fold removed a file meanwhile;
        nothing was committed then.
    InputError
        If the token is not one.
    MissingExtraError
        If huggingface_hub is not installed.
    """
    api = _api(token)
    directory = Directory(index.path)
    with (
        _hub(f"cannot push to {repo_id}"),
        tempfile.TemporaryDirectory(prefix="vecindex-") as folder,
    ):
        store = Store.open(directory, writable=False, sync=True)
        store.close()
        # Logs may grow, or be cut, during the upload.
        manifest = copy_logs(directory, Directory(Path(folder)), store.state)
        files: dict[str, Path | bytes] = {
            entry.name: directory.path / entry.name for entry in manifest.files()
        }
        files |= {log.name: Path(folder) / log.name for log in manifest.logs}
        files[NAME] = manifest_bytes(manifest)
        repo_id = _repository(api, repo_id, private)
        card = cards.index_card(repo_id, len(index), index.dim, embedder)
        stale = [name for name in _tree(api, repo_id, None) if OURS.match(name)]
        gone = [name for name in stale if name not in files]
        return _commit(api, repo_id, {**files, _README: card.encode()}, "Upload index", gone)


def fetch_index(
    repo_id: str,
    path: Path,
    verify: Callable[[Path], VerifyReport],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> None:
    """Bring a finished index here; it appears at `path` when every byte of it was checked.

    Parameters
    ----------
    repo_id : str
        Where `push_index` put it.
    path : Path
        The directory to make; its parents are made, too.
    verify : callable
        Opens the index in a directory and reads every byte of it.
    revision : str or None
        A branch, a tag or a commit; None takes the newest.
    token : str or None
        As for `push_rows`.

    Raises
    ------
    IndexPathError
        If something is at `path` already, or the repository holds no index.
    CorruptIndexError
        If a file is missing, has another size or other bytes than its manifest says, or a name
        is none that an index has.
    HubError
        If the Hub refuses or cannot be reached.
    InputError
        If the token is not one.
    MissingExtraError
        If huggingface_hub is not installed.
    """
    if os.path.lexists(path):
        raise IndexPathError(f"{path} exists; choose another path for the index of {repo_id}")
    api = _api(token)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        whole = staging / "index"
        whole.mkdir()
        with _hub(f"cannot fetch {repo_id}"):
            _download(api, repo_id, revision, staging / "download", whole)
        try:
            problems = verify(whole).problems
        except CorruptIndexError as error:
            what = str(error).replace(f"{whole}{os.sep}", "")
            raise CorruptIndexError(f"{repo_id} is damaged, nothing was kept: {what}") from error
        if problems:
            found = "; ".join(f"{one.file} at {one.offset}: {one.what}" for one in problems)
            raise CorruptIndexError(f"{repo_id} is damaged, nothing was kept: {found}")
        Directory(whole).move(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(api: Any, repo_id: str, revision: str | None, folder: Path, whole: Path) -> None:
    """Fetch what the manifest names, and nothing else, and move it from `folder` to `whole`."""
    commit = api.repo_info(repo_id, repo_type=_KIND, revision=revision).sha
    sizes = _tree(api, repo_id, commit)
    for name in sizes:
        if _HOSTILE.search(name):
            raise CorruptIndexError(f"{repo_id} holds a file of an impossible name: {name!r}")
    if NAME not in sizes:
        raise IndexPathError(f"{repo_id} holds no vecindex index: there is no {NAME} in it")

    def fetch(name: str) -> None:
        if name not in sizes:
            raise CorruptIndexError(f"{repo_id}: {name} is missing, though {NAME} names it")
        api.hf_hub_download(repo_id, name, repo_type=_KIND, revision=commit, local_dir=folder)
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())
        (folder / name).replace(whole / name)

    fetch(NAME)
    manifest = read_manifest(Directory(whole))
    for entry in manifest.files():
        if sizes.get(entry.name, entry.size) != entry.size:
            raise CorruptIndexError(
                f"{repo_id}: {entry.name} has {sizes[entry.name]} bytes, expected {entry.size}"
            )
    for name in sorted(manifest.names()):
        fetch(name)
    Directory(whole).sync()


def _api(token: str | None) -> Any:
    if token is not None:
        token = token.strip() if isinstance(token, str) else ""
        if not _TOKEN.fullmatch(token):
            raise InputError(
                "the token is not one: expected a str of ASCII letters, digits and signs, without "
                "a space or a line break in it"
            )
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing_extra("huggingface_hub", "hf") from error
    return huggingface_hub.HfApi(token=token, library_name="vecindex")


def _repository(api: Any, repo_id: str, private: bool) -> str:
    """Return the whole name of the repository, which is made if there is none."""
    made = api.create_repo(repo_id, repo_type=_KIND, private=private, exist_ok=True)
    return str(made.repo_id)


def _tree(api: Any, repo_id: str, revision: str | None) -> dict[str, int]:
    """Return the sizes of all files by name."""
    entries = api.list_repo_tree(repo_id, repo_type=_KIND, revision=revision, recursive=True)
    return {entry.path: entry.size for entry in entries if hasattr(entry, "size")}


def _commit(
    api: Any,
    repo_id: str,
    files: Mapping[str, Path | bytes],
    message: str,
    gone: list[str] | None = None,
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations = [
        *(CommitOperationAdd(name, source) for name, source in files.items()),
        *(CommitOperationDelete(name) for name in gone or ()),
    ]
    made = api.create_commit(repo_id, operations, commit_message=message, repo_type=_KIND)
    return str(made.commit_url)


@contextmanager
def _hub(what: str) -> Iterator[None]:
    """Turn the client's errors, which have no base in common, into `HubError`."""
    try:
        yield
    except VecindexError:
        raise
    except Exception as error:
        found = [error] if error.__cause__ is None else [error, error.__cause__]
        reason = ": ".join(" ".join(str(one).split()) or type(one).__name__ for one in found)
        raise HubError(f"{what}: {reason}") from error
