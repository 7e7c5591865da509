"""MASF with independent posterior draws: the ``exact`` sampler of masf.diffusion.samplers in place
of the coupled one.
"""

from __future__ import annotations

from masf.arrays import Array
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import exact
from masf.filters.learned import LearnedFilter, NetworkParameters


class FreshMASF(LearnedFilter):
    Parameters = NetworkParameters

    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        return exact(process, denoiser, y, ensemble, self.times, self.stream)


filter = FreshMASF
