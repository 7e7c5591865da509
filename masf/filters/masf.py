"""The measurement-aware score-based filter (Yoon, Kim, Kim, arXiv:2604.02889), with the member-coupled sampler (ours).

What the family shares is in masf.filters.process; the network that corrects the Gaussian denoiser in
masf.filters.learned; the sampler, ``coupled``, in masf.diffusion.samplers.
"""

from __future__ import annotations

from masf.filters.learned import LearnedFilter, NetworkParameters
from masf.filters.process import CoupledFilter, CoupledParameters


class MASFParameters(NetworkParameters, CoupledParameters):
    pass


class MASF(LearnedFilter, CoupledFilter):
    Parameters = MASFParameters


filter = MASF
