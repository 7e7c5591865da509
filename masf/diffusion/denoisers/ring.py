"""The denoiser of a Gaussian prior with a tapered covariance on a long ring, in closed form and in
a time linear in d.

The equations are those of masf.diffusion.denoisers.gaussian. Where the process is diagonal, S = A P
A + Sigma reaches no further than the taper does. Cut into p = 2^k blocks of neighbours, it is block
tridiagonal and cyclic, with D_i on its diagonal and U_i between block i and the next. Block cyclic
reduction eliminates every second block, which leaves a matrix of the same form with half as many,
until a single one is left: for an even block i, the next one o and the one before it o',

    D_i <- D_i - U_i D_o^(-1) U_i^T - U_o'^T D_o'^(-1) U_o'      U_i <- -U_i D_o^(-1) U_o.

That is a Cholesky factorisation of S in another order, exact and stable (Golub and Van Loan, Matrix
Computations, section 4.5), made of products of many small matrices at once. The diagonal of C takes
those blocks of S^(-1) where S itself has blocks; they follow by the same recursion, backward
(Takahashi's equations).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, Stream, eye, like
from masf.diffusion.denoisers.gaussian import GaussianDenoiser
from masf.diffusion.gains import OfGain, by_component
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import taper_row

SHORTEST_RING = 250
"""Shorter rings are served as fast by dense matrices."""
FEWEST_BLOCKS = 4
"""With fewer, two blocks are neighbours on both sides."""
JITTER = 1e-9
"""Share of the mean variance that is added before a Cholesky factor is taken: tapered covariances
are barely definite.
"""


class RingTaper:
    """The Gaspari-Cohn taper on a ring of points with one or more components each, in d components,
    cut into p blocks of s components of neighbouring points; shorter ones are filled up. The state
    has its fields one after the other, each the ring; all components of a point are as near.

    Attributes:
        places: (p, s) the component at each place; d where a block is filled up.
        slots: (d,) where each component stands in ``places``, flattened.
        within: (p, s, s) the taper inside each block.
        between: (p, s, s) the taper between each block and the next.
    """

    def __init__(self, points: int, radius: float, blocks: int, x: Array, fields: int = 1) -> None:
        """``x`` gives namespace, dtype and device."""
        bounds = np.arange(blocks + 1) * points // blocks
        lengths = np.diff(bounds)
        offsets = np.arange(lengths.max())
        filled = offsets < lengths[:, None]
        point = np.where(filled, bounds[:-1, None] + offsets, points)
        dimension = fields * points
        places = np.concatenate(
            [np.where(filled, point + field * points, dimension) for field in range(fields)], axis=1
        )
        slots, taken = np.empty(dimension, dtype=np.int64), places < dimension
        slots[places[taken]] = np.flatnonzero(taken)
        row = np.append(taper_row((points,), radius), 0.0)

        def taper(a: np.ndarray, b: np.ndarray) -> Array:
            known = (a[:, :, None] < points) & (b[:, None, :] < points)
            of_points = row[np.where(known, (a[:, :, None] - b[:, None, :]) % points, points)]
            return like(np.tile(of_points, (1, fields, fields)), x)

        xp = array_namespace(x)
        self.dimension, self.blocks = dimension, blocks
        self.places = xp.asarray(places, device=device(x))
        self.slots = xp.asarray(slots, device=device(x))
        self.within, self.between = (
            taper(point, point),
            taper(point, np.roll(point, -1, axis=0)),
        )

    def cut(self, x: Array, fill: float = 0.0) -> Array:
        """States (n, d) in blocks: (p, s, n), with ``fill`` where there is no component."""
        xp = array_namespace(x)
        padded = xp.concat([x.mT, xp.zeros_like(x[:, :1].mT) + fill])
        return padded[self.places]

    def join(self, blocks: Array) -> Array:
        """What :meth:`cut` did, undone."""
        return blocks.reshape(-1, blocks.shape[-1])[self.slots].mT


def ring_taper(points: int, radius: float, x: Array, fields: int = 1) -> RingTaper | None:
    """The taper of a ring of so many points, with so many components each, or None where it is too
    short to be cut. ``x`` as for RingTaper.
    """
    # A block as long as the band is wide: what reaches out of it reaches into one neighbour only.
    shortest = 2 * (int(np.ceil(2 * radius)) - 1)
    blocks = 2 ** int(np.log2(points / max(shortest, 8)))
    if points < SHORTEST_RING or blocks < FEWEST_BLOCKS:
        return None
    return RingTaper(points, radius, blocks, x, fields)


@dataclass(frozen=True)
class BlockMatrix:
    """A symmetric matrix, block tridiagonal and cyclic; of a single block, the matrix is D + U +
    U^T.

    Attributes:
        diagonal: (p, s, s) D.
        upper: (p, s, s) U, between each block and the next.
    """

    diagonal: Array
    upper: Array

    def __len__(self) -> int:
        return len(self.diagonal)

    def single(self) -> Array:
        """The matrix (1, s, s) where there is one block."""
        return self.diagonal + self.upper + self.upper.mT


class Reduction:
    """A factorisation of a positive definite ``BlockMatrix`` by block cyclic reduction.

    Attributes:
        odd: (p/2, s, s) D_o of the blocks that are eliminated; of the last level, the matrix
            itself.
        inverse: (p/2, s, s) its inverse.
        before, after: (p/2, s, s) S_eo D_o^(-1) for the even blocks e before and after each of
            them.
        rest: the factorisation of what is left; None at the last level.
    """

    def __init__(self, matrix: BlockMatrix) -> None:
        xp = array_namespace(matrix.diagonal)
        self.rest: Reduction | None = None
        if len(matrix) == 1:
            self.odd = matrix.single()
            self.inverse = xp.linalg.inv(self.odd)
            return
        even, self.odd = matrix.diagonal[::2], matrix.diagonal[1::2]
        to_odd, from_odd = matrix.upper[::2], matrix.upper[1::2]
        self.inverse = xp.linalg.inv(self.odd)
        self.before, self.after = to_odd @ self.inverse, from_odd.mT @ self.inverse
        left = even - self.before @ to_odd.mT - xp.roll(self.after @ from_odd, 1, axis=0)
        self.rest = Reduction(BlockMatrix(left, -self.before @ from_odd))

    def solve(self, x: Array) -> Array:
        """S^(-1) x for x (p, s, n)."""
        if self.rest is None:
            return self.inverse @ x
        xp = array_namespace(x)
        even, odd = x[::2], x[1::2]
        even = self.rest.solve(even - self.before @ odd - xp.roll(self.after @ odd, 1, axis=0))
        odd = self.inverse @ odd - self.before.mT @ even - self.after.mT @ xp.roll(even, -1, axis=0)
        return interleaved(even, odd)

    def inverse_blocks(self) -> BlockMatrix:
        """The blocks of S^(-1) where S has blocks."""
        if self.rest is None:
            return BlockMatrix(self.inverse, self.inverse)
        xp = array_namespace(self.inverse)
        even = self.rest.inverse_blocks()
        following = xp.roll(even.diagonal, -1, axis=0)
        to_before = -(self.before.mT @ even.diagonal + self.after.mT @ even.upper.mT)
        to_after = -(self.before.mT @ even.upper + self.after.mT @ following)
        odd = self.inverse - to_before @ self.before - to_after @ self.after
        return BlockMatrix(interleaved(even.diagonal, odd), interleaved(to_before.mT, to_after))

    def colour(self, noise: Array) -> Array:
        """L noise for noise (p, s, n), with L L^T = S: draws from N(0, S) if the noise is standard
        normal.
        """
        xp = array_namespace(noise)
        lower = xp.linalg.cholesky(self.odd)
        if self.rest is None:
            return lower @ noise
        odd = lower @ noise[1::2]
        even = (
            self.rest.colour(noise[::2]) + self.before @ odd + xp.roll(self.after @ odd, 1, axis=0)
        )
        return interleaved(even, odd)


def interleaved(even: Array, odd: Array) -> Array:
    """Blocks (p, ...) whose even ones and odd ones are given, each (p/2, ...)."""
    return array_namespace(even).stack([even, odd], axis=1).reshape(-1, *even.shape[1:])


class RingDenoiser(GaussianDenoiser):
    """P is the covariance of ensemble anomalies (N, d), tapered on a ring; for observations that
    are masks.
    """

    def __init__(
        self, process: ForwardProcess, mean: Array, anomalies: Array, taper: RingTaper
    ) -> None:
        super().__init__(process, mean)
        self.taper = taper
        self.anomalies = anomalies
        xp = array_namespace(anomalies)
        x = taper.cut(anomalies / float(np.sqrt(len(anomalies) - 1)))
        self.covariance = BlockMatrix(
            x @ x.mT * taper.within, x @ xp.roll(x, -1, axis=0).mT * taper.between
        )
        self._reductions: dict[float, Reduction] = {}
        self._prior: Reduction | None = None

    def _coefficient(self, values: np.ndarray, fill: float) -> Array:
        """A coefficient of the process (d,) in blocks (p, s, 1)."""
        return self.taper.cut(like(values, self.mean)[None], fill)

    def _reduction(self, t: float) -> Reduction:
        """The factorisation of S at time t."""
        if t not in self._reductions:
            xp, p = array_namespace(self.mean), self.covariance
            a, sigma = (
                self._coefficient(self.process.A(t), 0.0),
                self._coefficient(self.process.Sigma(t), 1.0),
            )
            diagonal = a * p.diagonal * a.mT + sigma * eye(p.diagonal.shape[-1], sigma)
            self._reductions[t] = Reduction(
                BlockMatrix(diagonal, a * p.upper * xp.roll(a, -1, axis=0).mT)
            )
        return self._reductions[t]

    def gain(self, x: Array, t: float) -> Array:
        xp, p = array_namespace(x), self.covariance
        solved = self._reduction(t).solve(self.taper.cut(x.reshape(-1, x.shape[-1])))
        solved = self._coefficient(self.process.A(t), 0.0) * solved
        product = (
            p.diagonal @ solved
            + p.upper @ xp.roll(solved, -1, axis=0)
            + xp.roll(p.upper.mT @ solved, 1, axis=0)
        )
        return self.taper.join(product).reshape(x.shape)

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """By each component alone: the whole would ask for eigenvectors, which are not banded."""
        variance = self.process.basis.variance(self.anomalies)
        return by_component(self.process, variance, function, x)

    def posterior_variance(self, t: float) -> Array:
        """Diagonal of P - (A P)^T S^(-1) A P: a column of A P lies in one block and one of its
        neighbours.
        """
        xp, p, inverse = (
            array_namespace(self.mean),
            self.covariance,
            self._reduction(t).inverse_blocks(),
        )
        a = self._coefficient(self.process.A(t), 0.0)
        own, after, before = (
            a * p.diagonal,
            xp.roll(a, -1, axis=0) * p.upper.mT,
            xp.roll(a * p.upper, 1, axis=0),
        )
        following, preceding = (
            xp.roll(inverse.diagonal, -1, axis=0),
            xp.roll(inverse.diagonal, 1, axis=0),
        )
        to_before = xp.roll(inverse.upper, 1, axis=0).mT
        explained = own * (
            inverse.diagonal @ own + 2 * (inverse.upper @ after + to_before @ before)
        )
        explained = explained + after * (following @ after) + before * (preceding @ before)
        variance = xp.linalg.diagonal(p.diagonal) - xp.sum(explained, axis=-2)
        return self.taper.join(variance[..., None])[0]

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        xp = array_namespace(x)
        if self._prior is None:
            diagonal, upper = (
                xp.astype(part, xp.float64)
                for part in (self.covariance.diagonal, self.covariance.upper)
            )
            scale = xp.mean(xp.linalg.diagonal(diagonal))
            self._prior = Reduction(
                BlockMatrix(diagonal + JITTER * scale * eye(diagonal.shape[-1], diagonal), upper)
            )
        noise = self.taper.cut(stream.normal((n, len(self.mean)), x))
        return self.taper.join(xp.astype(self._prior.colour(xp.astype(noise, xp.float64)), x.dtype))
