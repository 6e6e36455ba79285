"""Crashes: every prefix of a script's writes, and what may be left of them, opened again."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from vecindex import VectorIndex
from vecindex.errors import IndexPathError

from .disk import Image, Mark, digest, read_image, write_image
from .operations import NAME, Content, Script, shown, unit_rows

_MEMORY = Path("/dev/shm")
_NOT_READ = "not read"
_READ = 8  # one state of so many is opened by a reader first
_NO_INDEX = None
"""What is recovered where the creation of the index was not finished."""


class CrashError(AssertionError):
    """A crash that the index did not survive as promised."""


@contextmanager
def working_directory() -> Iterator[Path]:
    """Make a directory, in memory where there is such a thing."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="vecindex-torture-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Tally:
    """What was tried."""

    states: int = 0  # different images, each opened by the real code
    judged: int = 0  # images compared with what was acknowledged: the same one at several moments
    moments: int = 0  # places in a script's writes
    followed: int = 0  # different recovered directories in which work went on


@dataclass(frozen=True)
class Found:
    """What was recovered: the rows, None if there was no index yet; was something dropped?"""

    content: Content | None
    torn: bool
    copies: dict[str, Content] = field(default_factory=dict)  # what each snapshot shows


@dataclass
class Crashes:
    """Opens images, each different one once.

    Parameters
    ----------
    work : Path
        An empty directory.
    tally : Tally
        Is counted up.
    """

    work: Path
    tally: Tally = field(default_factory=Tally)
    _found: dict[bytes, Found] = field(default_factory=dict)
    _followed: dict[bytes, None] = field(default_factory=dict)

    def judge(self, image: Image, allowed: list[Content | None]) -> Found:
        """Return what is left; raise `CrashError` unless it is one of the contents allowed."""
        self.tally.judged += 1
        key = digest(image)
        if key not in self._found:
            self.tally.states += 1
            self._found[key] = self._recover(image)
        found = self._found[key]
        if found.content not in allowed:
            wanted = " or ".join(map(_named, allowed))
            raise CrashError(f"after the crash there is {_named(found.content)}, not {wanted}")
        return found

    def _recover(self, image: Image) -> Found:
        root = self.work / "disk"
        write_image(root, image)
        try:
            return self._examine(root, image)
        except CrashError:
            raise
        except Exception as error:
            raise CrashError(f"{type(error).__name__}: {error}") from error
        finally:
            shutil.rmtree(root)

    def _examine(self, root: Path, image: Image) -> Found:
        read = self._read(root, image) if self.tally.states % _READ == 0 else _NOT_READ
        found = self._open(root)
        if read not in (_NOT_READ, found.content):
            raise CrashError("a reader saw something else than the writer recovered")
        return replace(found, copies=_copies(root))

    def _read(self, root: Path, image: Image) -> Any:
        """Return what a reader finds, who changes nothing."""
        try:
            with VectorIndex.open(root / NAME) as index:
                found = shown(index)
        except IndexPathError:
            found = _NO_INDEX
        if read_image(root) != image:
            raise CrashError("a reader changed something")
        return found

    def _open(self, root: Path) -> Found:
        path = root / NAME
        try:
            index = VectorIndex.open(path, "r+", maintenance="manual")
        except IndexPathError:
            if (path / "MANIFEST").exists():
                raise
            index = VectorIndex.create(path, maintenance="manual")
            found = Found(_NO_INDEX, torn=False)
        else:
            found = Found(shown(index), torn=bool(index._store.notes))
        try:
            # What goes on from here depends on what is on the disk now, and on nothing else.
            key = digest(read_image(path))
            if key not in self._followed:
                self._follow(index, path, found.content or ())
                self._followed[key] = None
                self.tally.followed += 1
        finally:
            index.close()
        return found

    def _follow(self, index: VectorIndex, path: Path, before: Content) -> None:
        """Work on: one more row, and nothing in the way of the next one who opens it."""
        named = index._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        left = {file.name for file in path.iterdir()} - named
        if left:
            raise CrashError(f"left behind: {sorted(left)}")
        index.upsert(ids=["after"], vectors=unit_rows(["after"]))
        after = (*before, ("after", (None, "None", unit_rows(["after"])[0].tobytes())))
        index.close()
        with VectorIndex.open(path) as again:
            if shown(again) != after:
                raise CrashError(f"one more row makes {_named(shown(again))}")
            problems = again.verify().problems
            if problems:
                raise CrashError(f"damage after recovery: {problems}")


def _copies(root: Path) -> dict[str, Content]:
    """Return what the snapshots in a directory show, unfinished ones that open among them."""
    found = {}
    for path in root.iterdir():
        if path.name != NAME:
            try:
                index = VectorIndex.open(path)
            except IndexPathError:
                if ".partial-" in path.name:
                    continue
                raise
            with index:
                assert index.verify().ok, path.name
                found[path.name] = shown(index)
    return found


def _check_copies(script: Script, found: Found, done: int) -> None:
    for name, content in found.copies.items():
        step = script.copies.get(name.split(".partial-")[0])
        if step is not None and content != script.contents[step]:
            raise CrashError(f"the snapshot {name} shows {_named(content)}")
    for name, step in script.copies.items():
        if done >= step and name not in found.copies:
            raise CrashError(f"the snapshot {name} is gone")


def _named(content: Content | None) -> str:
    return "no index" if content is None else f"{[row[0] for row in content]}"


def crash_everywhere(
    script: Script,
    crashes: Crashes,
    rng: random.Random,
    samples: int,
    each: Callable[[Image, Found], Any] = lambda *_: None,
    *,
    created: bool = True,
) -> None:
    """Crash a recorded script after each of its events.

    Parameters
    ----------
    script : Script
        What was recorded.
    crashes : Crashes
        Opens and judges.
    rng : random.Random
        Chooses what is left.
    samples : int
        Random images at each event, beside those that are always tried.
    each : callable
        Is given every image and what was found in it.
    created : bool
        Whether the script's first step makes the index.
    """
    disk = script.recorder.disk()
    done, begun = 0, 0
    for number, event in enumerate(script.recorder.events):
        disk.take(event)
        if isinstance(event, Mark):
            begun = max(begun, event.step)
            done = {"begins": done, "done": event.step, "failed": event.step + 1}[event.what]
            begun = max(begun, done)
        allowed: list[Content | None] = [*script.contents[script.floors[done] : begun + 1]]
        if created and not done:
            allowed.append(_NO_INDEX)
        crashes.tally.moments += 1
        for image in disk.images(rng, samples):
            try:
                found = crashes.judge(image, allowed)
                _check_copies(script, found, done)
            except CrashError as error:
                error.add_note(f"event {number}: {event}; step {begun} of {len(script.contents)}")
                error.add_note(f"files: { {k: v and len(v) for k, v in image.items()} }")
                raise
            each(image, found)


def crash_a_script(
    run: Callable[[Script], None],
    options: dict[str, Any],
    seed: int,
    *,
    samples: int,
    recoveries: int,
    tally: Tally | None = None,
) -> Tally:
    """Crash a script everywhere, and some of the recoveries from that, everywhere too.

    Parameters
    ----------
    run : callable
        The script.
    options : dict
        Of `Script`.
    seed : int
        Decides what is left at each crash, and which recoveries are crashed.
    samples : int
        Random images at each event.
    recoveries : int
        So many recoveries are crashed.
    tally : Tally or None
        Is counted up; what was tried is there even if it raises.
    """
    rng = random.Random(seed)
    # The index's own number is drawn; a seed shall give the same bytes again.
    with working_directory() as work, patch.object(os, "urandom", lambda count: b"\7" * count):
        script = _recorded(work, run, options)
        crashes = Crashes(work, tally or Tally())
        whole, torn = Reservoir(rng, recoveries // 3), Reservoir(rng, recoveries - recoveries // 3)

        def keep(image: Image, found: Found) -> None:
            if found.content is not None:
                (torn if found.torn else whole).offer((image, found.content))

        crash_everywhere(script, crashes, rng, samples, keep)
        for image, content in whole.kept + torn.kept:
            _crash_the_recovery(crashes, rng, image, content, samples)
        return crashes.tally


class Reservoir:
    """Keeps some of many things, each with the same probability."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.kept: list[tuple[Image, Content]] = []
        self._rng, self._size, self._seen = rng, size, 0

    def offer(self, thing: tuple[Image, Content]) -> None:
        """Perhaps keep it."""
        self._seen += 1
        if len(self.kept) < self._size:
            self.kept.append(thing)
        elif (place := self._rng.randrange(self._seen)) < self._size:
            self.kept[place] = thing


def _recorded(work: Path, run: Callable[[Script], None], options: dict[str, Any]) -> Script:
    root = work / "recorded"
    root.mkdir()
    script = Script(root, **options)
    run(script)
    shutil.rmtree(root)
    return script


def _crash_the_recovery(
    crashes: Crashes, rng: random.Random, image: Image, before: Content, samples: int
) -> None:
    def run(script: Script) -> None:
        script.open()
        script.add(["z"], long=rng.choice([0, 200, 600, 900]))
        script.upsert(["again", "b"], long=rng.choice([0, 600]))
        script.remove([rng.choice(list(script.rows))])
        if rng.random() < 0.5:
            script.seal()
        script.close()

    crash_after_opening(crashes, rng, image, before, run, samples // 4)


def crash_after_opening(
    crashes: Crashes,
    rng: random.Random,
    image: Image,
    before: Content,
    run: Callable[[Script], None],
    samples: int,
) -> None:
    """Crash everywhere in a script that begins by opening an image, which shows `before`."""
    root = crashes.work / "recorded"
    write_image(root, image)
    script = Script(root, before=before)
    run(script)
    shutil.rmtree(root)
    crash_everywhere(script, crashes, rng, samples, created=False)
