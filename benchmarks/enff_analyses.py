"""Analyses by the authors' public code of the ensemble flow filter, the reference of
tests/test_enff.py.

    git clone https://github.com/Utah-Math-Data-Science/Data-Assimilation-Flow-Matching
    pip install torch einops
    PYTHONPATH=Data-Assimilation-Flow-Matching/src python benchmarks/enff_analyses.py COMMIT

Needs nothing of this package. Writes the last analyses, forecasts, measurements, first samples and
settings, and what the code's ``EnsembleFlowFilter`` makes of them, to tests/data/enff_analyses.npz.
Its settings are classes of packages that are in no registry; stand-ins take their place.
"""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch

OUTPUT = Path(__file__).parent.parent / "tests" / "data" / "enff_analyses.npz"
# Path, steps, sigma_min, guidance, distance of observed components, whether arctan is measured.
CASES = [
    ("f2p", 10, 0.3, 0.5, 1, False),
    ("f2p", 4, 0.01, 0.2, 2, False),
    ("f2p", 7, 1.0, 0.05, 1, True),
    ("ot", 10, 0.3, 0.5, 1, False),
    ("ot", 5, 0.7, 1.0, 2, False),
    ("ot", 9, 0.5, 0.05, 1, True),
]
MEMBERS, DIMENSION, NOISE = 8, 12, 0.7


class Sampler(enum.Enum):
    """The one that is used."""

    EULER = enum.auto()


def main() -> None:
    """Draws a problem for each case, and has the authors' code analyse it."""
    for name in ("hydra", "omegaconf", "conf", "conf.dataset", "conf.prob_path"):
        sys.modules[name] = MagicMock()
    sys.modules["conf.filter"] = sys.modules["conf"].filter = SimpleNamespace(Sampler=Sampler)
    from dafm import filters, flow_matching_guidance, prob_path

    kinds = {"f2p": prob_path.FilteringToPredictive, "ot": prob_path.ConditionalOptimalTransport}
    torch.set_default_dtype(torch.float64)
    arrays: dict[str, np.ndarray] = {}
    for i, (path, steps, sigma_min, guidance, stride, arctan) in enumerate(CASES):
        rng = np.random.default_rng(i)
        past, forecast = 2 * rng.standard_normal((2, MEMBERS, DIMENSION))
        observed = slice(0, None, stride)

        def observe(x, observed=observed, arctan=arctan):
            return x[..., observed].atan() if arctan else x[..., observed]

        y = rng.standard_normal(len(range(DIMENSION)[observed]))
        chosen = kinds[path](
            SimpleNamespace(sigma_min=sigma_min, use_independent_coupling=False),
            np.random.default_rng(i),
            target_distribution_at_time_1=True,
        )
        if path == "f2p":
            chosen.set_previous_filtering(torch.as_tensor(past))
        # Drawn in float32 there.
        first = chosen.sample_noise(torch.zeros(()), torch.as_tensor(forecast)).double()
        chosen.sample_noise = lambda *_, first=first: first
        code = filters.EnsembleFlowFilter(
            SimpleNamespace(
                sampling_time_step_count=steps + 1,
                vmap_chunk_size=None,
                sampler=Sampler.EULER,
                inflation_scale=1.0,
            ),
            np.random.default_rng(i),
            chosen,
            flow_matching_guidance.Local(None, lambda _, factor=guidance: factor),
        )
        analysis = code.assimilate(0, torch.as_tensor(forecast), torch.as_tensor(y), NOISE, observe)
        arrays |= {f"past_{i}": past, f"forecast_{i}": forecast, f"y_{i}": y}
        arrays |= {f"first_{i}": first.numpy(), f"analysis_{i}": analysis.numpy()}
    OUTPUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUTPUT, commit=np.array(sys.argv[1]), settings=np.array(json.dumps(CASES)), **arrays
    )


if __name__ == "__main__":
    main()
