"""MASF with independent posterior draws: the ``exact`` sampler of masf.samplers in place of the coupled one."""

from __future__ import annotations

from masf.arrays import Array
from masf.filters.masf import MASF, NetworkParameters
from masf.process import ForwardProcess
from masf.samplers import Denoiser, exact


class FreshMASF(MASF):
    Parameters = NetworkParameters

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        return exact(process, denoiser, y, state, self.times, self.stream)


filter = FreshMASF
