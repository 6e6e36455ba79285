"""Coverage-guided fuzzing of every reader, by atheris.

`python -m tests.torture fuzz --seconds 3600 --out FILE` gives each target its share, and adds up.
`python -m tests.torture.fuzz TARGET --seconds 600` runs one; a crash prints the command that
replays it.
A corpus is kept for each target in the user's cache directory, so runs go on where one ended.
"""

from __future__ import annotations

import argparse
import codecs
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .targets import Target

_ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vecindex-torture"
_MORE_MEMORY = 512 << 20  # for inputs of some KiB, beside what the libraries take by themselves
_LONGEST = 16 << 10  # bytes of an input
_HANGS_S = 300  # by the clock, and others may have the machine
_NEXT = "=== next target ===\n"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_FORBIDDEN = ("pickle.find_class", "marshal.loads", "os.system", "os.exec", "os.posix_spawn",
              "subprocess.Popen", "socket.connect", "ctypes.dlopen")  # fmt: skip
_GUESSED = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
"""Encodings that `json` may find in bytes."""
_CHANGES = {"os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.rename": 2, "os.link": 2,
            "os.symlink": 2, "os.truncate": 1}  # fmt: skip
"""Events that change a directory, and how many paths each has."""


class OutsideError(AssertionError):
    """Something was touched that is none of the reader's business."""


@dataclass
class Outcome:
    """What came of one run of a target."""

    executions: int
    seconds: int  # of the processor
    corpus: int  # inputs that are kept, each of which reaches something
    coverage: int  # places of the code that were reached
    crashes: list[Path]
    told: str


def run(
    targets: Sequence[str],
    *,
    seconds: float = 0,
    runs: int = -1,
    seed: int = 0,
    cache: Path = CACHE,
) -> dict[str, Outcome]:
    """Fuzz targets, one after the other in a process of its own, for seconds or inputs each."""
    for target in targets:  # those of earlier runs are in their results
        shutil.rmtree(cache / target / "crashes", ignore_errors=True)
    command = [sys.executable, "-m", __spec__.name, *targets, f"--cache={cache}", "--here"]
    command += [f"--runs={runs}", f"--seconds={seconds:.0f}", f"--seed={seed}"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    told = done.stderr.decode(errors="replace").split(_NEXT)[1:]
    found = {}
    for target, text in zip(targets, told, strict=True):
        crashes = sorted((cache / target / "crashes").iterdir())
        executions = _last(r"stat::number_of_executed_units:\s+(\d+)", text)
        if not crashes and not (executions and "ended with 0" in text):
            raise RuntimeError(f"the fuzzer of {target} gave up: {text[-4000:]}")
        corpus = len(list((cache / target / "corpus").iterdir()))
        spent, reached = _last(r", used (\d+) seconds", text), _last(r"cov: (\d+)", text)
        found[target] = Outcome(executions, spent, corpus, reached, crashes, text)
    return found


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


# -- the process that fuzzes -----------------------------------------------------------------


@contextmanager
def guarded(work: Path) -> Iterator[list[bool]]:
    """Let nothing outside of a directory be written, and no code be loaded, while a flag is set."""
    watching = [False]
    inside = (str(work), "/dev/null")

    def look(event: str, given: tuple[object, ...]) -> None:
        if not watching[0]:
            return
        if event in _FORBIDDEN:
            raise OutsideError(f"{event} {given!r}")
        if event == "open" and isinstance(given[0], str | bytes):
            path = os.fsdecode(given[0])
            harmless = path.startswith((sys.prefix, sys.base_prefix, str(_ROOT)))
            writes = isinstance(given[2], int) and given[2] & _WRITES
            if not path.startswith(inside) and (writes or not harmless):
                raise OutsideError(f"opened {path!r}")
        for path in map(os.fsdecode, given[: _CHANGES.get(event, 0)]):  # type: ignore[arg-type]
            if not path.startswith(inside):
                raise OutsideError(f"{event} {path!r}")

    for encoding in _GUESSED:
        codecs.lookup(encoding)  # Python loads each when it is first used
    sys.addaudithook(look)
    try:
        yield watching
    finally:
        watching[0] = False


def limit_memory() -> None:
    """Let this process have little more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _fuzz(name: str, target: Target, options: argparse.Namespace, work: Path) -> None:
    import atheris

    attempt = target.prepare(work)
    corpus, crashes = (options.cache / name / kind for kind in ("corpus", "crashes"))
    for directory in (corpus, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
        attempt(data)  # whatever is imported late is imported now

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        choose = random.Random(seed)
        if choose.random() < 0.7:
            with suppress(Exception):  # it has lost its form
                return target.mutate(bytes(data), choose)[:most]
        return bytes(atheris.Mutate(data, most))

    with guarded(work) as watching:

        def one(data: bytes) -> None:
            watching[0] = True
            try:
                attempt(data)
            finally:
                watching[0] = False

        limit_memory()
        limit = (
            f"-runs={options.runs}"
            if options.runs >= 0
            else f"-max_total_time={options.seconds:.0f}"
        )
        arguments = [
            "fuzz", limit, f"-seed={options.seed + 1}", f"-max_len={_LONGEST}", "-rss_limit_mb=0",
            f"-timeout={_HANGS_S}", f"-report_slow_units={_HANGS_S}", "-print_final_stats=1",
            "-mutate_depth=1",  # one change after the other would lose the form
            f"-artifact_prefix={crashes}/",
            str(corpus),
        ]  # fmt: skip
        atheris.Setup(arguments, one, custom_mutator=mutate)
        atheris.Fuzz()


def replay(target: str, data: bytes) -> str:
    """Give one input to a target, within the same bounds; return what came of it."""
    from .targets import TARGETS

    with tempfile.TemporaryDirectory() as name:
        attempt = TARGETS[target].prepare(Path(name))
        attempt(TARGETS[target].seeds()[0])
        with guarded(Path(name)) as watching:
            watching[0] = True
            return attempt(data)


def main() -> None:
    """Fuzz one target, or replay one input."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs, instead of seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps corpora and crashes")
    parser.add_argument("--replay", metavar="BASE64", help="do one input again")
    parser.add_argument("--here", action="store_true", help="fuzz in this process and its forks")
    options = parser.parse_args()
    if not options.here:
        from .targets import TARGETS

        if unknown := set(options.targets) - set(TARGETS):
            parser.error(f"unknown: {', '.join(unknown)}; the targets are {', '.join(TARGETS)}")
    if options.replay is not None:
        print(replay(options.targets[0], b64decode(options.replay)))  # noqa: T201
    elif options.here:
        _fuzz_each(options)
    else:
        told = {"seconds": options.seconds, "runs": options.runs, "seed": options.seed}
        found = run(options.targets, cache=options.cache, **told)
        for target, outcome in found.items():
            print(target, outcome.executions, "inputs;", outcome.coverage, "places reached")  # noqa: T201
            for crash in outcome.crashes:
                print(outcome.told[-3000:], replay_command(target, crash))  # noqa: T201
        sys.exit(any(outcome.crashes for outcome in found.values()))


def _fuzz_each(options: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["vecindex"]):
        from .targets import TARGETS
    for name in options.targets:
        sys.stderr.write(_NEXT)
        sys.stderr.flush()
        work = Path(tempfile.mkdtemp(prefix="vecindex-fuzz-", dir=_memory()))
        child = os.fork()  # the fuzzer ends its process without a word
        if child == 0:
            _fuzz(name, TARGETS[name], options, work)
            sys.exit()
        _, status, used = os.wait4(child, 0)
        spent, code = used.ru_utime + used.ru_stime, os.waitstatus_to_exitcode(status)
        sys.stderr.write(f"ended with {code}, used {spent:.0f} seconds\n")
        shutil.rmtree(work, ignore_errors=True)


def replay_command(target: str, crash: Path) -> str:
    """Return the command that does a crash again."""
    data = b64encode(crash.read_bytes()).decode()
    return f"python -m tests.torture.fuzz {target} --replay {data}"


def _memory() -> Path | None:
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main()
