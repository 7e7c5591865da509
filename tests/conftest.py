"""What tests share: linear Gaussian problems, bounds from the sampling distribution, and a study
with results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

# Tests run side by side, one to a core. To be said before numpy and torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import scipy.stats
from browser import headless
from debian import CannotRun
from selenium.webdriver.remote.webdriver import WebDriver
from synthetic import flow_study, small_study, write_results

from masf.study.study import Study

FIRST = ("test_slurm", "test_workflow", "test_faults", "test_adding_a_filter", "test_score_filters")
"""Files that take longest. Where files run side by side, the short ones then fill the time that is
left.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    items.sort(
        key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST)
    )


FALSE_ALARMS = 1e-3
"""Chance that a correct program, with a fresh seed, fails one Monte-Carlo test."""


def normal_bound(entries: int) -> float:
    """Bonferroni quantile: so large are ``entries`` standard normal errors, all of them, but for
    FALSE_ALARMS.
    """
    return float(scipy.stats.norm.isf(FALSE_ALARMS / 2 / entries))


@pytest.fixture
def bonferroni() -> Callable[[int], float]:
    return normal_bound


def assert_gaussian_moments(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Independent draws (N, d) have this mean and covariance.

    Each entry's error over its standard error, sqrt(C_ii / N) for means and sqrt((C_ii C_jj +
    C_ij^2) / (N - 1)) for covariances of Gaussian draws, is standard normal; the bound is the
    Bonferroni quantile over all entries.
    """
    n, d = draws.shape
    variance = np.diag(covariance)
    mean_error = (draws.mean(axis=0) - mean) / np.sqrt(variance / n)
    scale = np.sqrt((np.outer(variance, variance) + covariance**2) / (n - 1))
    covariance_error = (np.cov(draws.T).reshape(d, d) - covariance) / scale
    errors = np.concatenate([mean_error, covariance_error[np.triu_indices(d)]])
    assert np.all(np.isfinite(errors))
    assert np.max(np.abs(errors)) < normal_bound(len(errors))


@pytest.fixture
def assert_moments() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    return assert_gaussian_moments


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    """A headless Chromium; tests that ask for it are skipped where there is none and none can be
    installed.
    """
    try:
        with headless() as driver:
            yield driver
    except CannotRun as reason:
        pytest.skip(f"no browser here: {reason}")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with results, in which free_run diverges in one seed of gap 2 and in both of gap
    3.
    """
    study = small_study(tmp_path_factory.mktemp("results"))
    write_results(
        study, diverged={("free_run", 2, 1): 2, ("free_run", 3, 0): 1, ("free_run", 3, 1): 0}
    )
    return study


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same of a flow; free_run diverges in seed 1."""
    study = flow_study(tmp_path_factory.mktemp("flows"))
    write_results(study, diverged={("free_run", 2, 1): 2, ("free_run", 3, 1): 2})
    return study
