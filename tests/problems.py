"""Linear Gaussian problems of every kind of measurement, whose posterior is known in closed
form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from masf.blocks import Blocks
from masf.diffusion.process import ForwardProcess
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.pooling import Pooling


@dataclass
class Problem:
    """Prior N(mean, covariance), a measurement y, and the Kalman posterior, by the information
    form.
    """

    observation: Observation
    mean: np.ndarray
    covariance: np.ndarray
    y: np.ndarray

    @property
    def process(self) -> ForwardProcess:
        basis = self.observation.basis()
        return ForwardProcess(basis, np.full(len(basis.s), 0.7))

    @property
    def gain(self) -> np.ndarray:
        h = self.observation.matrix
        return (
            self.covariance
            @ h.T
            @ np.linalg.inv(h @ self.covariance @ h.T + self.observation.noise.covariance)
        )

    @property
    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        h, precision = self.observation.matrix, np.linalg.inv(self.observation.noise.covariance)
        covariance = np.linalg.inv(np.linalg.inv(self.covariance) + h.T @ precision @ h)
        information = np.linalg.solve(self.covariance, self.mean) + h.T @ precision @ self.y
        return covariance @ information, covariance

    def prior_draws(self, n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).multivariate_normal(
            self.mean, self.covariance, n, method="cholesky"
        )


def covariance_matrix(d: int, rng: np.random.Generator) -> np.ndarray:
    """A full covariance matrix with standard deviations about 1 and all components correlated."""
    factor = rng.standard_normal((d, d)) / np.sqrt(d)
    return factor @ factor.T + 0.3 * np.eye(d)


KINDS = [
    "identity",
    "mask",
    "mask, correlated noise",
    "pooling",
    "dense",
    "dense, square",
    "dense, more rows than rank",
]
"""What is measured in a problem: see ``make_problem``."""


def make_problem(kind: str, d: int) -> Problem:
    """A problem of ``kind`` with d components; the prior covariance is full."""
    rng = np.random.default_rng(5)
    m = -(-d // 2)
    h = rng.standard_normal((m, d)) / np.sqrt(d)
    if kind == "identity":
        observation = Mask(d, np.arange(d), noise=0.8)
    elif kind == "mask":
        observation = Mask(d, np.arange(0, d, 2), noise=np.linspace(0.5, 1.5, m))
    elif kind == "mask, correlated noise":
        observation = Mask(d, np.arange(0, d, 2), noise=0.5 * covariance_matrix(m, rng))
    elif kind == "pooling":
        observation = Pooling(Blocks((d,), 2), 1, noise=np.linspace(0.5, 1.5, d // 2))
    elif kind == "dense":
        observation = Matrix(h, noise=0.5 * covariance_matrix(m, rng))
    elif kind == "dense, square":
        observation = Matrix(rng.standard_normal((d, d)) / np.sqrt(d), noise=0.8)
    elif kind == "dense, more rows than rank":
        rows = np.concatenate([h, h[:1] + h[1:2], 2 * h[:1]])
        observation = Matrix(rows, noise=0.5 * covariance_matrix(m + 2, rng))
    else:
        raise ValueError(kind)
    y = 1.0 + rng.standard_normal(observation.size)
    return Problem(observation, rng.standard_normal(d), covariance_matrix(d, rng), y)
