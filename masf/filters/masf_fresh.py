"""MASF with independent posterior draws: the ``exact`` sampler of masf.diffusion.samplers in place of the coupled one."""

from __future__ import annotations

from masf.arrays import Array
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import Denoiser, exact
from masf.filters.masf import MASF, NetworkParameters


class FreshMASF(MASF):
    Parameters = NetworkParameters

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        return exact(process, denoiser, y, state, self.times, self.stream)


filter = FreshMASF
