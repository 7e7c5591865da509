"""Cards are claimed one a process, and free again when it ends, with pretended cards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from masf.devices import claim_card

CLAIM = """
import sys
from pathlib import Path
from masf.devices import claim_card
print(claim_card(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def claim(tmp_path: Path) -> Iterator[Any]:
    """Starts a process that claims one of these cards, and keeps it."""
    with ExitStack() as stack:

        def start(cards: str, **environment: str) -> subprocess.Popen:
            kept = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", CLAIM, str(tmp_path / "cards")],
                env=kept | {"CUDA_VISIBLE_DEVICES": cards} | environment,
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def card_of(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_process_gets_a_card_of_its_own_and_one_too_many_waits(claim: Any) -> None:
    first, second = claim("GPU-a,GPU-b"), claim("GPU-a,GPU-b")
    cards = [card_of(first), card_of(second)]
    assert sorted(cards) == ["GPU-a", "GPU-b"]
    third = claim("GPU-a,GPU-b")
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(1)
    # A lock dies with its holder, however that dies.
    second.kill()
    assert card_of(third) == cards[1]


def test_claimed_card_is_the_only_one_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert claim_card(tmp_path) == "2"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(
    ("cards", "environment"),
    [
        pytest.param("0", {}, id="one card"),
        pytest.param("0,1", {"SLURM_JOB_ID": "7"}, id="SLURM hands out its cards"),
    ],
)
def test_nothing_is_claimed_where_there_is_nothing_to_choose(
    cards: str, environment: dict[str, str], claim: Any
) -> None:
    assert card_of(claim(cards, **environment)) == "None"
