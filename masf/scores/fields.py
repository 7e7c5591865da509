"""Scores of two-dimensional fields: structural similarity and critical success index, of the
vorticity of flows.

Tables and figures compute them from truth.nc and {filter}.nc; no filter runs again where they
change.
"""

from __future__ import annotations

import numpy as np

from masf.systems import flow

FLOW_SCORES = {"ssim": "SSIM of vorticity", "csi": "CSI of vorticity"}
"""Scores of systems that are a flow, and what people call them; 1 is perfect."""

SSIM_RADIUS = 5
"""Grid points that the window of the structural similarity reaches on each side."""

EVENT_QUANTILE = 0.9
"""An event is a magnitude above this quantile of the true field's (chosen)."""


def vorticity_scores(estimate: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The FLOW_SCORES (times,) of velocities (times, 2, n, n), in float32; NaN where the estimate
    is not finite.
    """
    fields = list(zip(flow.vorticity(estimate), flow.vorticity(truth), strict=True))
    functions = {"ssim": structural_similarity, "csi": critical_success_index}
    return {
        name: np.array([score(*pair) for pair in fields], np.float32)
        for name, score in functions.items()
    }


def structural_similarity(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (SSIM, Wang et al. 2004) of two fields (n, n) on a periodic grid, mean
    over all points.

    With their constants and their Gaussian window of 11 x 11 points, sigma 1.5, which is wrapped
    around the grid. The data range is the truth's, its maximum less its minimum. NaN where the
    estimate is not finite or the truth is constant.
    """
    from skimage.metrics import structural_similarity as ssim  # imported late, as scoringrules

    scale = float(np.ptp(truth))
    if not (np.all(np.isfinite(estimate)) and scale > 0):
        return float("nan")
    # skimage leaves a border of the window's reach out of its mean: that border is what is wrapped
    # around.
    wrapped = (
        np.pad(field.astype(np.float64), SSIM_RADIUS, mode="wrap") for field in (estimate, truth)
    )
    return float(
        ssim(
            *wrapped,
            data_range=scale,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def critical_success_index(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Critical success index (threat score, Schaefer 1990) of two fields: hits / (hits + misses +
    false alarms).

    An event is a point where the magnitude is above the EVENT_QUANTILE of the truth's magnitudes
    over the field. NaN where the estimate is not finite or the truth has no event.
    """
    magnitude = np.abs(truth)
    threshold = np.quantile(magnitude, EVENT_QUANTILE)
    forecast, observed = np.abs(estimate) > threshold, magnitude > threshold
    if not (np.any(observed) and np.all(np.isfinite(estimate))):
        return float("nan")
    return np.count_nonzero(forecast & observed) / np.count_nonzero(forecast | observed)
