"""Forks of a process that has used torch: they compute, and do not wait for threads that are
gone.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from masf.arrays import resolve_device

PROGRAM = """
import multiprocessing, masf

QUICK = {"training_steps": 2, "training_steps_per_cycle": 2, "network_width": 64}

def rmse(seed):
    system = masf.make_system("lorenz96", dimension=40)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=1, cycles=1, members=200, seed=seed)
    return float(masf.assimilate(truth, "sf", QUICK, device="cpu")["rmse"].mean())

if __name__ == "__main__":
    alone = rmse(0)  # its training uses torch's threads
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(rmse, [0, 1])
    assert abs(found[0] - alone) < 1e-3 * alone, (found, alone)
    assert found[1] != found[0]
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_pool_of_forks_computes_after_torch_was_used() -> None:
    two_threads = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(  # noqa: S603
        words, capture_output=True, text=True, timeout=60, env=two_threads, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_a_fork_of_a_process_that_used_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masf.forks._parent", {"had_cuda": True, "pid": os.getpid() - 1})
    for device in ("auto", "cuda"):
        with pytest.raises(ValueError, match=r"forked from one that had used CUDA.*'spawn'"):
            resolve_device(device, needs_torch=True)
    assert resolve_device("cpu", needs_torch=True) == "cpu"
    assert resolve_device("auto", needs_torch=False) is None
