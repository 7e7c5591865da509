"""Analyses by DAPyr's local particle filter, the reference of tests/test_local_pf.py.

    pip install --no-deps dapyr==1.0.0
    python benchmarks/dapyr_analyses.py

DAPyr is by the group that the filter is from. Only its ``DA.lpf_update`` is used, and imported
without its models, which need a compiler. Writes forecast ensembles, measurements, settings and
DAPyr's analyses to tests/data/dapyr_analyses.npz. On its rings every taper is above what our filter
leaves out.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from masf.ensembles.localization import gaspari_cohn, torus_distances

OUTPUT = Path(__file__).parent.parent / "tests" / "data" / "dapyr_analyses.npz"
DIMENSION, MEMBERS = 12, 20
# Distance of observed components, radius (None: no taper), mixing, effective share, iterations.
CASES = [
    (1, 5.0, 0.3, 0.4, 1),
    (2, 5.0, 1.0, 0.4, 1),
    (2, 7.0, 0.6, 0.6, 3),
    (3, 5.0, 0.5, 0.1, 1),
    (12, None, 1.0, 0.3, 1),
    (12, None, 0.5, 0.3, 1),
]


def main() -> None:
    """Draws an ensemble and a measurement for each case, and has DAPyr analyse them."""
    package, spec = ModuleType("DAPyr"), find_spec("DAPyr")
    assert spec is not None
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["DAPyr"] = package
    update = importlib.import_module("DAPyr.DA").lpf_update
    arrays: dict[str, np.ndarray] = {}
    for i, (stride, radius, mixing, share, iterations) in enumerate(CASES):
        rng, d = np.random.default_rng(i), DIMENSION
        ensemble = rng.standard_normal((MEMBERS, d)) @ rng.standard_normal((d, d)) / 3
        observed = np.arange(0, d, stride)
        y, noise = rng.standard_normal(len(observed)), 1.2
        places = np.arange(d)[:, None]
        tapers = np.ones((d, d))
        if radius is not None:
            tapers = gaspari_cohn(torus_distances(places, places, (d,)), radius)
        analysis, fault = update(
            ensemble.T.copy(),
            ensemble.T[observed].copy(),
            y,
            np.eye(d)[observed],
            tapers[observed],
            share * MEMBERS,
            mixing,
            0.0,
            iterations,
            0,
            0,
            np.zeros(len(observed)),
            lambda y, h, noise=noise: np.exp(-((y - h) ** 2) / (2 * noise**2)),
        )
        assert fault == 0
        assert np.all(np.isfinite(analysis))
        arrays |= {f"ensemble_{i}": ensemble, f"y_{i}": y, f"analysis_{i}": analysis.T}
    np.savez_compressed(
        OUTPUT,
        dapyr_version=np.array(version("dapyr")),
        settings=np.array(json.dumps(CASES)),
        **arrays,
    )


if __name__ == "__main__":
    main()
