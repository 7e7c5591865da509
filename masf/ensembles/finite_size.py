"""The finite-size prior: what an ensemble of N members says of its own sampling error (Bocquet
2011; Bocquet, Raanes and Hannart 2015).

The mean and the covariance of N members are not those of the distribution they come from.
Integrated over what these may be, the prior of weights v (x = mean(x) + v X / sqrt(N - 1)) is no
Gaussian, with -log p = |v|^2 / 2, but has heavier tails:

    -log p(v) = (N - 1) c / 2 log(e + |v|^2 / (N - 1)) + constant
    e = 1 + 1 / N     c = N / (N - 1)

Given the measurement, its minimiser is that of a Gaussian prior of precision zeta, anomalies
inflated by 1 / sqrt(zeta). With whitened anomalies of the measurements S, S S^T = F mu F^T, the
innovation delta, and b = F^T S delta, zeta is the minimiser of the dual function (ibid., eq. 30)

    D(zeta) = -sum_i b_i^2 / (zeta + mu_i) + (N - 1) (e zeta - c log zeta)

Where there is nothing to learn from the measurement its minimum, c / e, would inflate at each
analysis. Both coefficients are therefore corrected by (e / c)^(tr(I + S S^T)^(-1) / (2 N)) (ibid.,
section 4, in the form that DAPPER gives it), and multiplied by a ``certainty`` (DAPPER's ``xN``):
above 1 where the members are a better sample than random draws, as those of deterministic filters
and smooth models are.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, like

LEAST_PRECISION = 1e-4
"""Below this fraction of c / e, an inflation by 100, no minimum is looked for."""
GRID = 32
"""Values of zeta that are tried at once; the best one's neighbours bound the next, finer grid."""
GRIDS = 3
NEWTON_STEPS = 3


def prior_coefficients(values: Array, n: int, certainty: float) -> tuple[Array, Array]:
    """e and c (...) of the prior, corrected, for eigenvalues ``values`` (..., r) of S S^T, at most
    n of them, the others being 0.
    """
    xp = array_namespace(values)
    e, c = (n + 1) / n, n / (n - 1)
    weight_of_prior = (xp.sum(1 / (1 + values), axis=-1) + n - values.shape[-1]) / n
    correction = (e / c) ** (weight_of_prior / 2)
    return certainty * e / correction, certainty * c * correction


def prior_precision(values: Array, projected: Array, n: int, certainty: float) -> Array:
    """zeta (...), the minimiser of the dual function: the anomalies' inflation is zeta^(-1/2).

    D may have several minima: the lowest of a grid is refined by Newton's method in log zeta.

    Args:
        values: (..., r) eigenvalues mu of S S^T, in float64.
        projected: (..., r) b = F^T S delta.
        n: members N.
        certainty: DAPPER's xN.
    """
    xp = array_namespace(values)
    e, c = (coefficient[..., None] for coefficient in prior_coefficients(values, n, certainty))
    mu, squares = values[..., None, :], projected[..., None, :] ** 2

    def dual(zeta: Array) -> Array:
        fit = xp.sum(squares / (zeta[..., None] + mu), axis=-1)
        return (n - 1) * (e * zeta - c * xp.log(zeta)) - fit

    low, high = xp.log(LEAST_PRECISION * c / e), xp.log(c / e)
    least, most, shares = low, high, like([i / (GRID - 1) for i in range(GRID)], values)
    for _ in range(GRIDS):
        grid = low + (high - low) * shares
        best = xp.argmin(dual(xp.exp(grid)), axis=-1, keepdims=True)
        low, high = (
            xp.take_along_axis(grid, xp.clip(best + side, 0, GRID - 1), axis=-1) for side in (-1, 1)
        )
    zeta = xp.exp((low + high) / 2)
    for _ in range(NEWTON_STEPS):
        inverse = 1 / (zeta[..., None] + mu)
        slope = xp.sum(squares * inverse**2, axis=-1) + (n - 1) * e
        # Derivatives by log zeta of D.
        first = zeta * slope - (n - 1) * c
        second = zeta * slope - 2 * zeta**2 * xp.sum(squares * inverse**3, axis=-1)
        step = xp.where(second > 0, first / xp.where(second > 0, second, 1.0), 0.0)
        zeta = xp.exp(xp.clip(xp.log(zeta) - step, min=low, max=high))
    return xp.exp(xp.clip(xp.log(zeta), min=least, max=most))[..., 0]
