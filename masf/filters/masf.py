"""The measurement-aware score-based filter (Yoon, Kim, Kim, arXiv:2604.02889), with the
member-coupled sampler (ours).

What the family shares is in masf.filters.process_filter; the network that corrects the Gaussian
denoiser in masf.filters.learned; the sampler, ``coupled``, in masf.diffusion.samplers.
"""

from __future__ import annotations

from masf.filters.learned import LearnedFilter, NetworkParameters
from masf.filters.passes import TemperedFilter, TemperedParameters


class MASFParameters(NetworkParameters, TemperedParameters):
    """Those of a learned denoiser and of tempered passes."""


class MASF(LearnedFilter, TemperedFilter):
    """A learned denoiser (LearnedFilter), sampled member by member in passes (TemperedFilter)."""

    Parameters = MASFParameters


filter = MASF
