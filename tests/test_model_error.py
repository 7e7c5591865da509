"""Model error: filters forecast with a model that is not what makes the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import masf
from masf.arrays import Stream
from masf.files.cell import CellSettings, Model
from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.stages.aggregate import gather
from masf.stages.assimilate import assimilate_to_file
from masf.stages.simulate import simulate, simulate_to_file
from masf.study import jobs
from masf.study.load import make_study
from masf.study.messages import ConfigFault
from masf.study.study import Study
from masf.systems.lorenz96_two_scale import fitted_closure
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
TWO_SCALE = {"dt": 0.01, "slow": 8, "fast": 6, "forcing": 15.0, "substeps": 5}


def config(tmp_path: Path, **experiment: Any) -> dict[str, Any]:
    usual = {
        "title": "The model is the truth's",
        "system": "lorenz96",
        "parameters": {"dt": 0.01, "dimension": 12, "forcing": 8},
        "observations": ["all"],
        "gaps": [5],
        "members": 20,
        "cycles": 20,
        "spin_up_cycles": 5,
    }
    return {
        "results": str(tmp_path),
        "seeds": {"test": [0], "tuning": [100]},
        "filters": ["etkf", "masf"],
        "pinned": {"masf": {"network": False}},
        "observations": {"all": {"operator": "identity", "noise": 1.0}},
        "experiments": {"right": usual, "wrong": {**usual, "title": "It is not", **experiment}},
    }


def run_cells(study: Study, results: Path) -> None:
    for cell in study.cells.values():
        simulate_to_file(cell.settings, results / cell.truth)
        for name in cell.filters:
            assimilate_to_file(
                results / cell.truth,
                results / cell.estimate(name),
                name=name,
                parameters=study.default_parameters(name, cell),
                pinned=study.config.pinned.get(name),
                cost=results / cell.cost(name),
            )


def test_an_experiment_says_what_filters_forecast_with(tmp_path):
    study = make_study(config(tmp_path, model={"parameters": {"forcing": 11.0}}), root=ROOT)
    run_cells(study, tmp_path)
    right, wrong = study.cells.values()
    assert "/dimension~12+dt~0.01+forcing~8+model~forcing~11/" in wrong.path
    assert wrong.situation == {**right.situation, "model": "forcing 11"}
    truths = [read_truth(tmp_path / cell.truth) for cell in (right, wrong)]
    for key in ("truth", "observation", "initial_ensemble"):
        np.testing.assert_array_equal(*(getattr(truth, key) for truth in truths))
    for name in ("etkf", "masf"):
        data = read_estimate(tmp_path / wrong.estimate(name))
        assert json.loads(data.attrs["model_parameters"])["forcing"] == 11
        assert json.loads(data.attrs["settings"])["parameters"]["forcing"] == 8
    # As a model that is passed in Python is.
    system = masf.make_system("lorenz96", dimension=12, forcing=8.0, dt=0.01)
    other = masf.make_system("lorenz96", dimension=12, forcing=11.0, dt=0.01)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=5, cycles=20, members=20)
    used = json.loads(read_estimate(tmp_path / wrong.estimate("etkf")).attrs["filter_parameters"])
    passed = masf.assimilate(truth, "etkf", used, system=other)
    found = read_estimate(tmp_path / wrong.estimate("etkf"))
    np.testing.assert_array_equal(found["mean"], passed["mean"])
    # And the file of such a cell, opened in Python, is forecast by its model.
    import xarray as xr

    with xr.open_dataset(tmp_path / wrong.truth) as data:
        opened = masf.assimilate(data.load(), "etkf", used)
    np.testing.assert_array_equal(opened["mean"], found["mean"])
    scores, _ = gather(study)
    rmse = scores.set_index(["filter", "cell"])["rmse"]
    for name in ("etkf", "masf"):
        assert rmse[name, wrong.path] > 1.1 * rmse[name, right.path]
    assert scores["model"].dropna().unique().tolist() == ["forcing 11"]


def test_a_model_that_is_the_truths_is_none(tmp_path):
    study = make_study(config(tmp_path, model={"parameters": {"forcing": 8}}), root=ROOT)
    (cell,) = study.cells.values()
    assert cell.settings.model is None
    assert cell.experiments == ("right", "wrong")
    assert "model" not in json.loads(cell.settings.to_json())


def test_jobs_and_priors_are_of_the_model(tmp_path):
    made = config(tmp_path, model={"parameters": {"forcing": 11.0}})
    del made["pinned"]
    made["priors"] = {"lorenz96": {"gaps": [5], "cycles": 8, "spin_up_cycles": 2}}
    study = make_study(made, root=ROOT)
    right, wrong = study.cells.values()
    forcings = [study.prior(cell).parameters["forcing"] for cell in (right, wrong)]
    assert forcings == [8, 11]
    assert study.prior(right).path != study.prior(wrong).path
    commands = [jobs.simulate_job(study, [cell]).command for cell in (right, wrong)]
    assert "--model" not in commands[0]
    assert '--model \'{"parameters": {"dimension": 12' in commands[1]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"system": "lorenz97"}, "experiments.wrong.model.system = 'lorenz97'"),
        (
            {"parameters": {"dimension": 11}},
            "experiments.wrong.model: the model has 11 components: expected 12, as the truth",
        ),
        (
            {"parameters": {"dt": 0.02}},
            "experiments.wrong.model: the model has dt 0.02, and the truth 0.01: give both the",
        ),
        ({"parameters": {"focing": 9}}, "experiments.wrong.model: parameters.focing"),
        ({"parameters": {"forcing": "strong"}}, "experiments.wrong.model.parameters.forcing"),
    ],
)
def test_models_that_cannot_are_refused(model, said, tmp_path):
    with pytest.raises(ConfigFault) as caught:
        make_study(config(tmp_path, model=model), root=ROOT)
    assert said in str(caught.value)


# --- the two-scale system, and models of it


def test_two_scale_is_its_equations_component_by_component():
    system = make_system("lorenz96_two_scale", TWO_SCALE)
    p, rng = system.parameters, np.random.default_rng(0)
    state = rng.standard_normal(system.dimension)
    state[8:] /= 10
    x, y = state[:8], state[8:]
    h, c, b = p.coupling, p.time_scale, p.space_scale
    expected = np.empty_like(state)
    for k in range(8):
        of_k = y[6 * k : 6 * (k + 1)]
        advection = -x[k - 1] * (x[k - 2] - x[(k + 1) % 8])
        expected[k] = advection - x[k] + p.forcing - h * c / b * of_k.sum()
    for i in range(48):
        advection = -c * b * y[(i + 1) % 48] * (y[(i + 2) % 48] - y[i - 1])
        expected[8 + i] = advection - c * y[i] + h * c / b * x[i // 6]
    np.testing.assert_allclose(system.tendency(state), expected, atol=1e-12)
    np.testing.assert_allclose(system.tendency(torch.as_tensor(state[None])), expected[None])
    np.testing.assert_array_equal(system.resolved(state), x)
    # An integrator of others, over one step of dt, of many substeps.
    fine = make_system("lorenz96_two_scale", TWO_SCALE | {"substeps": 50})
    solved = solve_ivp(
        lambda _, s: system.tendency(s), (0, 0.01), state, method="DOP853", rtol=1e-11, atol=1e-11
    ).y[:, -1]
    stepped = fine.step(state, Stream(0, "unused"))
    np.testing.assert_allclose(stepped, solved, atol=1e-8)


def test_without_coupling_the_slow_components_are_lorenz96():
    system = make_system("lorenz96_two_scale", TWO_SCALE | {"coupling": 0.0})
    model = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 15.0})
    state = np.random.default_rng(1).standard_normal((3, system.dimension))
    np.testing.assert_allclose(
        system.resolved(system.tendency(state)), model.tendency(system.resolved(state)), atol=1e-12
    )


def test_closure_is_what_was_fitted_and_forecasts_better_than_none():
    """Against the polynomial that Wilks (2005) gives for K 8, J 32, h 1, c 10, b 10 and F 20."""
    keys = {"dt": 0.01, "slow": 8, "fast": 32, "forcing": 20.0, "substeps": 4}
    system = make_system("lorenz96_two_scale", keys)
    coefficients = fitted_closure(system, Stream(0, "closure"), time=12.0)
    wilks = [0.275, 1.59, -0.0190, -0.0130, 0.000707]
    x = np.linspace(-3, 11, 15)
    found, published = (np.polynomial.polynomial.polyval(x, c) for c in (coefficients, wilks))
    assert np.max(np.abs(found - published)) < 0.15 * np.ptp(published)
    model = {"dt": 0.01, "dimension": 8, "forcing": 20.0}
    closed = {**model, **{f"c{i}": float(c) for i, c in enumerate(coefficients)}}
    # Forecasts of half a time unit, from the truth.
    state = system.typical_state(Stream(3, "start")).astype(np.float32)
    states = [make_system("lorenz96", model), make_system("lorenz96_closure", closed)]
    unused, start = Stream(0, "unused"), system.resolved(state)
    end = system.resolved(system.advance(state, 50, unused))
    none, with_closure = (np.abs(m.advance(start, 50, unused) - end).mean() for m in states)
    assert with_closure < none / 2
    assert not states[1].stochastic


def test_closure_of_zeros_is_lorenz96_and_noise_is_its_own():
    keys = {"dt": 0.01, "dimension": 8, "forcing": 15.0}
    plain, noisy = (make_system("lorenz96_closure", keys | {"model_noise": q}) for q in (0.0, 0.3))
    x = np.random.default_rng(1).standard_normal((4000, 8))
    expected = make_system("lorenz96", keys).step(x, Stream(0, "unused"))
    np.testing.assert_array_equal(plain.step(x, Stream(0, "unused")), expected)
    assert noisy.stochastic
    noise = noisy.step(x, Stream(0, "noise")) - expected
    assert noise.std() == pytest.approx(0.3, rel=0.02)


def test_a_coarse_model_forecasts_what_it_resolves(tmp_path):
    made = config(
        tmp_path,
        system="lorenz96_two_scale",
        parameters=TWO_SCALE,
        model={"system": "lorenz96", "parameters": {"dimension": 8, "forcing": 15.0}},
    )
    del made["experiments"]["right"]
    made["filters"] = ["etkf", "letkf", "masf", "free_run"]
    study = make_study(made, root=ROOT)
    run_cells(study, tmp_path)
    (cell,) = study.cells.values()
    assert "+model~lorenz96~dimension~8~dt~0.01~forcing~15/" in cell.path
    truth = read_truth(tmp_path / cell.truth)
    assert truth.truth.shape == (101, 8)
    assert truth.observation.shape == (20, 8)
    # The truth is the slow part of a run of the system.
    full = simulate(
        CellSettings(
            "lorenz96_two_scale", TWO_SCALE, {"operator": "identity", "noise": 1.0},
            5, 20, 2, 1.0, 0,
        )
    )  # fmt: skip
    np.testing.assert_array_equal(full.truth[:, :8], truth.truth)
    scores, _ = gather(study)
    rmse = scores.set_index("filter")["rmse_analysis"]
    assert np.isfinite(rmse).all()
    assert rmse["letkf"] < rmse["free_run"] / 2
    assert truth.settings.model == Model("lorenz96", {"dimension": 8, "dt": 0.01, "forcing": 15.0})
