"""Processes that are forked after torch was used, such as those of a multiprocessing.Pool on Linux.

A fork copies the memory and none of the threads. OpenMP, by which torch computes on several
threads, waits in the child for those that are gone, and so for ever. With one thread it waits for
nobody: that is what a child gets, which shares the processor with its siblings anyway. CUDA cannot
be used at all by a child of a process that has used it.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

_parent: dict[str, Any] = {"had_cuda": False}


@cache
def survive_forks() -> None:
    """Children that this process forks from now on can use torch, on one thread."""
    os.register_at_fork(before=_before, after_in_child=_in_child)


def forked_from_cuda() -> bool:
    """Whether this process is a fork of one that had used CUDA."""
    return bool(_parent["had_cuda"]) and _parent["pid"] != os.getpid()


def _before() -> None:
    torch = sys.modules["torch"]
    _parent.update(pid=os.getpid(), had_cuda=torch.cuda.is_initialized())


def _in_child() -> None:
    sys.modules["torch"].set_num_threads(1)
