"""Analyses by DAPPER (Raanes, Chen, Grudzien 2024), the reference of
tests/test_square_root_filters.py.

    python -m venv dapper && dapper/bin/pip install dapper
    dapper/bin/python benchmarks/dapper_analyses.py

Needs DAPPER 1.7 in an environment of its own, and nothing of this package. Writes forecast
ensembles, measurements, settings and DAPPER's analyses to tests/data/dapper_analyses.npz: of `EnKF`
with upd_a "Sqrt" (an ETKF), and of `LETKF` with the taper "GC" and one transform a grid point.
Localisation radii are DAPPER's `loc_rad`; inflation follows the analysis, as in its `post_process`.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from dapper.da_methods.ensemble import EnKF_analysis, local_analyses, post_process
from dapper.tools.localization import nd_Id_localization
from dapper.tools.matrices import CovMat
from dapper.tools.randvars import GaussRV

OUTPUT = Path(__file__).parent.parent / "tests" / "data" / "dapper_analyses.npz"
RING, TORUS = (40,), (8, 10)
# Grid, distance of observed points, members, loc_rad (None: no localisation), inflation, whether R
# has correlations.
CASES = [
    (RING, 1, 45, None, 1.0, False),
    (RING, 1, 20, None, 1.0, False),
    (RING, 1, 20, None, 1.1, False),
    (RING, 2, 30, None, 1.0, False),
    (RING, 2, 12, None, 1.05, True),
    (RING, 1, 20, 2.0, 1.0, False),
    (RING, 1, 7, 4.0, 1.04, False),
    (RING, 2, 7, 4.0, 1.0, False),
    (RING, 2, 20, 2.0, 1.1, True),
    (TORUS, 3, 10, 1.5, 1.0, False),
    (TORUS, 1, 10, 3.0, 1.02, False),
]


def covariance(n: int, scale: float) -> np.ndarray:
    """exp(-distance / scale) between n neighbours."""
    return np.exp(-np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / scale)


def main() -> None:
    """Draws an ensemble and a measurement for each case, and has DAPPER analyse them."""
    arrays: dict[str, np.ndarray] = {}
    settings = []
    for i, (grid, stride, members, loc_rad, inflation, correlated) in enumerate(CASES):
        rng = np.random.default_rng(i)
        d = int(np.prod(grid))
        observed = np.arange(0, d, stride)
        m = len(observed)
        # Correlated neighbours, as in a forecast; more spread in some places than in others.
        factor = np.linalg.cholesky(covariance(d, 3.0))
        ensemble = rng.standard_normal(d) + rng.standard_normal(
            (members, d)
        ) @ factor.T * np.linspace(0.3, 2.0, d)
        std = np.linspace(0.5, 1.5, m)
        noise = np.outer(std, std) * covariance(m, 1.0) if correlated else std**2
        y = rng.standard_normal(m) + std * rng.standard_normal(m)
        hnoise = GaussRV(C=CovMat(noise, "full" if correlated else "diag"))
        if loc_rad is None:
            analysis = EnKF_analysis(ensemble.copy(), ensemble[:, observed], hnoise, y, "Sqrt")
        else:
            localizer = nd_Id_localization(grid, (1,) * len(grid), observed, periodic=True)
            batches, taperer = localizer(loc_rad, "x2y", "GC")
            analysis, _ = local_analyses(
                ensemble.copy(), ensemble[:, observed], hnoise.C, y, batches, taperer
            )
        analysis = post_process(analysis, inflation, False)
        settings.append(
            {
                "grid": grid,
                "stride": stride,
                "loc_rad": loc_rad,
                "inflation": inflation,
                "correlated": correlated,
            }
        )
        arrays |= {
            f"ensemble_{i}": ensemble,
            f"y_{i}": y,
            f"noise_{i}": noise,
            f"analysis_{i}": analysis,
        }
    OUTPUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUTPUT,
        dapper_version=np.array(version("dapper")),
        settings=np.array(json.dumps(settings)),
        **arrays,
    )


if __name__ == "__main__":
    main()
