"""One card for each job on a workstation of several: Snakemake counts GPUs, but hands none out.

A job that computes on a GPU claims one by a lock on a file, one file a card, and sees that card
only. The lock dies with its holder, however that dies. SLURM hands out its cards itself, and where
one card is visible there is nothing to choose.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.5

_held: list[int] = []
"""Locks of this process, open until it ends."""


def visible_cards() -> list[str]:
    """The cards that this process may use, by the names that CUDA_VISIBLE_DEVICES knows; none
    without an NVIDIA driver.
    """
    if VISIBLE in os.environ:
        return [card.strip() for card in os.environ[VISIBLE].split(",") if card.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    words = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    return listed.stdout.split() if listed.returncode == 0 else []


def claim_card(folder: Path | None = None) -> str | None:
    """Claims a card for this process until it ends, and hides the others; waits while all are
    taken.

    To be called before torch is imported. The locks are files in ``folder``, by default one of this
    user's for temporary files.

    Returns:
        The card, or None where there is nothing to choose.
    """
    cards = visible_cards()
    if len(cards) < 2 or "SLURM_JOB_ID" in os.environ:
        return None
    folder = folder or Path(tempfile.gettempdir()) / f"masf-cards-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    waits = False
    while True:
        for card in cards:
            handle = os.open(
                folder / f"{card.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600
            )
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            _held.append(handle)
            os.environ[VISIBLE] = card
            log.info("computes on card %s", card)
            return card
        if not waits:
            log.info("all %d cards are taken (locks in %s): waits for one", len(cards), folder)
            waits = True
        time.sleep(POLL_SECONDS)
