"""Checkpoints of a training: where a job that was killed goes on from.

A file beside the output holds the rounds that are done and the state within the one that is not:
networks, optimiser, learning rate and random numbers. It is replaced as a whole, so that a process
that dies while it writes leaves the one before, and it is removed when the output is there. What a
training simulates is simulated again, which gives the same, so that the file stays small.
"""

from __future__ import annotations

import copy
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from masf.atomic import replacing

log = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
"""Time between two checkpoints: what a killed job loses at most, besides what it simulated."""

State = dict[str, Any]


class Checkpoint:
    """The checkpoint of one training.

    Attributes:
        rounds: the states at the end of the rounds that are done.
        current: the state within the round after those, or None.
    """

    def __init__(self, path: Path, identity: str) -> None:
        """Reads ``path``, if it is there and of the training that ``identity`` tells. That of
        another one, or a damaged one, is left out, and replaced by the first that is kept.
        """
        self.path, self.identity = Path(path), identity
        self.rounds: list[State] = []
        self.current: State | None = None
        self._kept = time.monotonic()
        if not self.path.exists():
            return
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            known = found["identity"] == identity
            rounds, current = list(found["rounds"]), found["current"]
        except (
            OSError,
            RuntimeError,
            KeyError,
            TypeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            log.warning("%s: cannot be read (%s); training begins anew", self.path, error)
            return
        if not known:
            log.warning("%s: is of another training; this one begins anew", self.path)
            return
        self.rounds, self.current = rounds, current
        step = 0 if current is None else current["step"]
        log.info("goes on from %s: round %d, step %d", self.path, len(rounds) + 1, step)

    def keep(self, state: Callable[[], State]) -> None:
        """Writes the state within a round, where the last writing is long enough ago."""
        if time.monotonic() - self._kept >= EVERY_SECONDS:
            self.current = state()
            self._write()

    def end_round(self, state: State) -> None:
        """Writes the state at the end of a round."""
        self.rounds.append(copy.deepcopy(state))  # its tensors are trained on
        self.current = None
        self._write()

    def remove(self) -> None:
        """Removes the file: the training is done."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        content = {"identity": self.identity, "rounds": self.rounds, "current": self.current}
        with replacing(self.path) as temporary:
            torch.save(content, temporary)
        self._kept = time.monotonic()
