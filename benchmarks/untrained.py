"""A prior whose network costs a filter what a trained one does: with small random weights, and made
to serve in every cycle, where a filter would leave out one that denoises worse than a Gaussian.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest import mock

import numpy as np
import torch

from masf.diffusion.denoisers.learned import Climate
from masf.diffusion.denoisers.prior import Prior, make_network
from masf.diffusion.linear_state import state_shape
from masf.diffusion.prior_settings import PriorSettings
from masf.observations.base import Observation
from masf.systems.base import System


def untrained_prior(settings: PriorSettings, system: System, observation: Observation) -> Prior:
    """A prior for the system's state, with what is measured of it where that is not linear."""
    torch.manual_seed(0)
    network = make_network(settings, system, state_shape(system, observation))
    torch.nn.init.normal_(network.get_parameter("last.weight"), std=0.02)
    parts = 1 if observation.linear else 2
    return Prior(network, Climate(np.zeros(parts), np.full(parts, 3.6)), settings, {})


def always_served() -> AbstractContextManager[mock.MagicMock]:
    """Within it no network is left out."""
    return mock.patch("masf.diffusion.denoisers.validated.zero_loss", return_value=float("inf"))
