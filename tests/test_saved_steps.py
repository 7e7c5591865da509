"""What estimates keep of means and spreads, and what says so where they are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from masf.atomic import FileFault
from masf.files.cell import CellSettings
from masf.files.estimate import kept, read_estimate
from masf.scores.run import score
from masf.stages.assimilate import assimilate_to_file
from masf.stages.simulate import simulate_to_file
from masf.study.jobs import assimilate_job
from masf.study.load import make_study
from masf.study.messages import ConfigFault

GAP, CYCLES = 4, 5
CELL = CellSettings(
    "kolmogorov", {"size": 32}, {"operator": "grid", "stride": 4, "noise": 0.1},
    gap=GAP, cycles=CYCLES, members=5, initial_spread=0.5, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Estimates of one run by ``saved_steps``."""
    folder = tmp_path_factory.mktemp("runs")
    simulate_to_file(CELL, folder / "truth.nc")
    for steps in (0, 1, 3):
        assimilate_to_file(
            folder / "truth.nc", folder / f"{steps}.nc", name="free_run", parameters={},
            saved_steps=steps,
        )  # fmt: skip
    return {steps: folder / f"{steps}.nc" for steps in (0, 1, 3)}


def test_analyses_are_always_kept():
    measured = np.array([4, 8])
    assert np.flatnonzero(kept(10, measured, 0)).tolist() == [4, 8]
    assert np.flatnonzero(kept(10, measured, 3)).tolist() == [0, 3, 4, 6, 8, 9]
    assert kept(10, measured, 1).all()


@pytest.mark.parametrize("steps", [0, 3])
def test_what_is_kept_is_what_was_and_scores_are_of_the_whole_run(files, steps):
    whole, thin = read_estimate(files[1]), read_estimate(files[steps])
    there = kept(GAP * CYCLES + 1, np.arange(GAP, GAP * CYCLES + 1, GAP), steps)
    for name in ("mean", "spread"):
        np.testing.assert_array_equal(thin[name].values[there], whole[name].values[there])
        assert np.isnan(thin[name].values[~there]).all()
    for name in ("rmse", "spread_skill", "crps", "ranks"):
        np.testing.assert_array_equal(thin[name], whole[name])
    assert score(thin, gap=GAP, spin_up_cycles=1) == pytest.approx(
        score(whole, gap=GAP, spin_up_cycles=1), nan_ok=True
    )
    assert thin.attrs["saved_steps"] == steps
    assert "saved_steps" not in whole.attrs


def test_files_of_analyses_alone_are_small_and_open_lazily(files):
    sizes = {steps: path.stat().st_size for steps, path in files.items()}
    # A quarter of the means and spreads are left, and all of the members.
    assert sizes[0] < 0.6 * sizes[1]
    with xr.open_dataset(files[0], chunks=None) as data:
        assert not data["mean"].variable._in_memory


@pytest.mark.parametrize(("steps", "held"), [(0, "analyses alone"), (3, "every 3 steps")])
def test_who_needs_all_steps_is_told_that_they_are_not_there(files, steps, held):
    with pytest.raises(FileFault, match=f"{held}.*all steps are needed; .*saved_steps: 1"):
        read_estimate(files[steps], every_step=True)
    read_estimate(files[1], every_step=True)


ROOT = Path(__file__).parent.parent


def test_a_study_says_which_figures_need_all_steps():
    config = yaml.safe_load((ROOT / "config" / "figure5.yaml").read_text(encoding="utf-8"))
    cells = make_study(config, root=ROOT).cells.values()
    # The finer of two that share a cell: what serves both.
    moves = {cell.path: "animation" in cell.experiments for cell in cells}
    assert {cell.saved_steps for cell in cells if moves[cell.path]} == {1}
    assert {cell.saved_steps for cell in cells if not moves[cell.path]} == {0}
    del config["experiments"]["animation"]["saved_steps"]
    with pytest.raises(ConfigFault, match=r"figures\.animation: .*'animation' has saved_steps = 0"):
        make_study(config, root=ROOT)


def test_only_what_is_not_kept_is_on_the_command_line():
    config = yaml.safe_load((ROOT / "config" / "figure5.yaml").read_text(encoding="utf-8"))
    study = make_study(config, root=ROOT)
    for cell in study.cells.values():
        command = assimilate_job(study, "letkf", [cell]).command
        assert ("--saved-steps 0" in command) == (cell.saved_steps == 0)
        assert ("--saved-steps" in command) == (cell.saved_steps != 1)
