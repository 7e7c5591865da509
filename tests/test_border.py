"""Systems and observations of one's own that know numpy only, with filters that use torch; and
priors for them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import masf
from masf.observations.noise import make_noise
from masf.stages import border
from masf.systems.base import System

QUICK = {"training_steps": 3, "training_steps_per_cycle": 2, "network_width": 8}
SHORT = {
    "network": {"width": 4, "blocks": 1},
    "worlds": 2,
    "cycles": 2,
    "spin_up_cycles": 0,
    "members": 6,
    "extra_members": 2,
    "steps": 2,
    "climate_steps": 20,
}
RUN = {"gap": 2, "cycles": 3, "members": 12}


class Oscillators(masf.System):
    """Damped oscillators, by whatever numpy offers."""

    Parameters = masf.SystemParameters
    shape = (4,)
    stochastic = True

    def step(self, x: Any, stream: masf.Stream) -> Any:
        turned = np.roll(x.copy(), 1, axis=-1) * np.array([0.9, -0.9, 0.9, -0.9], dtype="f4")
        return turned + np.float32(0.1) * stream.normal(x.shape, x)

    def typical_state(self, stream: masf.Stream) -> np.ndarray:
        return np.array([2.0, 0.0, 1.0, 0.0])


class ForBoth(Oscillators):
    """The same, for numpy and torch."""

    def step(self, x: Any, stream: masf.Stream) -> Any:
        signs = np.array([0.9, -0.9, 0.9, -0.9], dtype="f4")
        if isinstance(x, torch.Tensor):
            return torch.roll(x, 1, -1) * torch.tensor(signs) + 0.1 * stream.normal(x.shape, x)
        return super().step(x, stream)


class Sums(masf.Observation):
    """Sums of neighbours, by numpy."""

    def apply(self, x: Any) -> Any:
        return np.add(x[..., ::2].copy(), x[..., 1::2])

    def adjoint(self, v: Any) -> Any:
        return np.repeat(v.copy(), 2, axis=-1)


def made(cls: type[System] = Oscillators) -> tuple[System, masf.Observation, xr.Dataset]:
    system, observation = cls(masf.SystemParameters(dt=0.1)), Sums(4, make_noise(0.5, 2), {})
    return system, observation, masf.simulate(system, observation, **RUN)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "_said", set())


def test_numpy_only_code_runs_under_torch_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    system, observation, truth = made()
    own = {"system": system, "observation": observation}
    with caplog.at_level(logging.WARNING):
        first, second = (masf.assimilate(truth, "sf", QUICK, **own) for _ in range(2))
    xr.testing.assert_identical(first, second)
    assert np.all(np.isfinite(first["mean"]))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said
    assert said[0].startswith("Oscillators: step takes numpy arrays only")
    assert said[1].startswith("Sums: apply, adjoint takes numpy arrays only")
    # The model itself is left as it was.
    assert "step" not in vars(system)
    assert system.step(np.zeros(4, "f4"), masf.Stream(0, "own")).dtype == np.float32


def test_a_model_for_both_is_handed_tensors_and_gives_the_same() -> None:
    x = np.ones((3, 4), dtype=np.float32)
    system, observation, _ = made(ForBoth)
    on_tensors, _ = border.on_tensors(system, observation, x, "cpu")
    assert on_tensors is system
    converted, _ = border.on_tensors(made()[0], observation, x, "cpu")
    tensors = torch.tensor(x)
    for _ in range(2):  # the second is not what the first left in the memory that they share
        stepped = [s.step(tensors, masf.Stream(0, "same")) for s in (on_tensors, converted)]
    torch_part = stepped[0] - 0.1 * masf.Stream(0, "same").normal((3, 4), tensors)
    numpy_part = stepped[1] - 0.1 * torch.tensor(masf.Stream(0, "same").normal((3, 4), x))
    torch.testing.assert_close(torch_part, numpy_part)
    assert torch.equal(tensors, torch.ones(3, 4))


class Distance(masf.NonlinearObservation):
    def apply(self, x: Any) -> Any:
        return (x[..., :1] ** 2 + x[..., 1:2] ** 2) ** 0.5


@pytest.mark.parametrize("name", ["masf", "sf", "ssls"])
def test_an_observation_of_ones_own_that_is_not_linear_has_no_adjoint_to_be_tried(
    name: str,
) -> None:
    system, observation = made()[0], Distance(4, make_noise(0.5, 1), {})
    masf.check_observation(observation)
    own = {"system": system, "observation": observation}
    truth = masf.simulate(system, observation, **RUN)
    parameters = {"network": False} if name == "masf" else QUICK if name == "sf" else {}
    estimate = masf.assimilate(truth, name, parameters, **own)
    assert estimate.attrs["diverged"] == 0
    assert np.all(np.isfinite(estimate["mean"]))


def test_a_prior_for_a_system_of_ones_own(tmp_path: Path) -> None:
    system, observation, truth = made()
    own = {"system": system, "observation": observation}
    with pytest.raises(masf.Refused, match="path is None: name the file of the prior"):
        masf.train_prior(truth, settings=SHORT, **own)
    with pytest.raises(ValueError, match="'Oscillators' is none of masf's: pass it"):
        masf.train_prior(truth, tmp_path / "prior.safetensors", SHORT)
    with pytest.raises(masf.Refused, match=r"localization_radii = \[3.0\]: .*Oscillators have no"):
        masf.train_prior(truth, settings={"localization_radii": [3]}, **own)
    path = masf.train_prior(truth, tmp_path / "prior.safetensors", SHORT, device="cpu", **own)
    estimate = masf.assimilate(truth, "masf", prior=path, device="cpu", **own)
    assert {"diagnostic_loss_prior", "diagnostic_network_used"} <= set(estimate.data_vars)
    assert estimate.attrs["diverged"] == 0
    xr.testing.assert_equal(
        masf.assimilate(truth, "masf", prior=path, device="cpu", **own), estimate
    )
    other = made(ForBoth)[0]
    with pytest.raises(masf.FileFault, match=r"another system \(Oscillators, not ForBoth\)"):
        masf.assimilate(truth, "masf", prior=path, system=other, observation=observation)
    faster = Oscillators(masf.SystemParameters(dt=0.2))
    with pytest.raises(ValueError, match=r"dt 0\.2"):
        masf.assimilate(truth, "masf", prior=path, system=faster, observation=observation)
