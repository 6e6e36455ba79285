"""Real kill -9: at named points of every operation, and at random moments of long lives.

The longer run is `python -m tests.torture kills`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .kills import Tally

_ROOT = Path(__file__).parents[2]


def tally_of(work: str) -> Tally:
    """Do some work in a process of its own, from which it can fork; return what it has tried."""
    code = (
        "import json\n"
        "from tests.torture.kills import NAMES, Tally, kill_everywhere\n"
        "from tests.torture.kills_random import kill_writers\n"
        f"tally = Tally()\n{work}\nprint(json.dumps(vars(tally)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Tally(**json.loads(done.stdout))


@pytest.mark.long
def test_an_operation_killed_at_any_call_is_done_or_not_begun() -> None:
    work = "for number, name in enumerate(NAMES):\n kill_everywhere(name, number, tally, stride=7)"
    tally = tally_of(work)
    assert tally.at_points > 60
    assert tally.while_recovering > 5
    assert tally.found > 5
    assert tally.gone > 5


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_writers_lose_nothing_and_leave_nothing_half_done(seed: int) -> None:
    tally = tally_of(f"kill_writers({seed}, 50, tally)")
    assert tally.at_random == 50
    assert tally.acknowledged > 2 * 50
    assert tally.torn > 0, "no kill came in the middle of a frame"
    assert tally.found + tally.gone > 50 // 4, "too few kills came in the middle of a call"
