"""Commands as real processes: exit codes, signals, pipes, and the demo with the real model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

COMMAND = [sys.executable, "-m", "vecindex"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def vecindex(tmp_path):
    """Run a command in a fresh process."""

    def call(*args, **options):
        words = [*COMMAND, *map(str, args)]
        return subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, **options
        )

    return call


@pytest.fixture
def kb(vecindex, tmp_path) -> Path:
    """Build an index of 3,000 vectors with texts."""
    rng = np.random.default_rng(0)
    lines = (
        json.dumps({"id": i, "text": f"text {i}", "v": rng.normal(size=4).tolist()})
        for i in range(3000)
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    columns = ("--text", "text", "--id", "id", "--vector", "v")
    done = vecindex("build", "rows.jsonl", "--out", "kb.vx", *columns)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "kb.vx"


def test_exit_codes(vecindex, kb):
    good = vecindex("info", kb, "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["rows"] == 3000
    failed = vecindex("get", kb, "nope")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "vecindex: not in the index: 'nope'\n"
    wrong = vecindex("search", kb, "x", "--where", "{")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Usage: vecindex search" in wrong.stderr


def test_the_console_script(tmp_path):
    script = Path(sys.executable).parent / "vecindex"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "vecindex 0.1.0\n"


@pytest.mark.parametrize("many", [True, False], ids=["more than a buffer", "less than a buffer"])
def test_a_closed_pipe_is_silent(kb, many):
    ids = [str(i) for i in range(2000 if many else 1)]
    words = [*COMMAND, "get", str(kb), *ids]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_under_stdout(kb):
    with Path("/dev/full").open("w") as full:
        words = [*COMMAND, "get", str(kb), "1"]
        done = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
        )
    assert done.returncode == 1
    assert done.stderr == "vecindex: No space left on device\n"


def test_progress_is_for_terminals(kb, tmp_path):
    np.save(tmp_path / "more.npy", np.ones((10, 4)))
    command = [*COMMAND, "add", str(kb), str(tmp_path / "more.npy")]
    for extra, expected in (([], True), (["--json"], False)):
        ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run([*command, *extra], stderr=theirs, stdout=-3, check=True, env=environment)
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # Linux: the other side is closed
            pass
        os.close(ours)
        assert (b"rows" in seen) is expected


def test_ctrl_c_during_a_build(tmp_path):
    (tmp_path / "long.jsonl").write_text(20_000 * (json.dumps({"v": [1] * 10}) + "\n"))
    words = [
        *COMMAND,
        "build",
        "long.jsonl",
        "--out",
        "kb.vx",
        "--vector",
        "v",
        "--batch-rows",
        "1",
    ]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: any(f.stat().st_size > 800 for f in tmp_path.glob("kb.*/log-*")))
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    first, second, third = stderr.splitlines()
    assert first == "vecindex: interrupted"
    assert second.startswith("vecindex: kb.vx.partial holds ")
    assert second.endswith("rows, all of them whole; the same build goes on from there")
    assert third == f"vecindex: to go on, type: vecindex {' '.join(words[3:])}"
    assert not (tmp_path / "kb.vx").exists()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_heavy_is_imported_late():
    code = (
        "import sys, vecindex.cli.app;"
        "print({'torch', 'pyarrow', 'sentence_transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.long
def test_the_demo(vecindex, tmp_path):
    expected = {8: 0.7565, 7: 0.7419, 3: 0.7253, 9: 0.6736, 10: 0.6505}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    first = vecindex("demo", "--out", "kb.vx", "--json", env=environment)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert [hit["id"] for hit in document["hits"]] == list(expected)
    for hit in document["hits"]:
        assert hit["score"] == pytest.approx(expected[hit["id"]], abs=1e-4)
    assert (document["path"], document["reused"]) == ("kb.vx", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kb.vx"]
    again = vecindex("demo", "--out", "kb.vx", env=environment)
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert lines[2] == "0.7565  8   How can I get help with my Medicare Part A and Part B premiums?"
    assert (
        lines[6] == "0.6505  10  Will my Medicare premiums be higher because of my higher income?"
    )
    assert "The index was there already: kb.vx" in lines
