"""The command line on real files: the stages by hand, the same seed twice, and one clear message
for each bad input.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml
from click.testing import CliRunner
from synthetic import small_study, write_results

from masf.cli import commands, main
from masf.cli.options import THREAD_VARIABLES
from masf.files.cell import CellSettings, build
from masf.files.cost import read_cost
from masf.files.estimate import read_estimate
from masf.files.parameters import ParameterSource
from masf.files.prior import read_prior
from masf.files.truth import Truth, read_truth, write_truth
from masf.filters.base import Filter
from masf.report.words import source_in_words
from masf.stages.aggregate import gather
from masf.study.load import json_schemas, load_study
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
SYSTEM = {
    "system": "lorenz63",
    "parameters": {"dt": 0.01},
    "observation": {"operator": "identity", "noise": 1.0},
}
ONE_SEED_LESS = {**SYSTEM, "gap": 5, "cycles": 4, "members": 10}
CELL = {**ONE_SEED_LESS, "seed": 3}
PRIOR = {
    "gaps": [5],
    "network": {"kind": "mlp", "width": 4, "blocks": 1},
    "worlds": 2,
    "cycles": 2,
    "spin_up_cycles": 0,
    "members": 6,
    "extra_members": 2,
    "localization_radii": [None],
    "sampler_steps": 2,
    "rounds": 1,
    "steps": 2,
    "batch": 4,
}


def words(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line; mappings become JSON."""
    return [
        word
        for k, v in options.items()
        for word in (f"--{k.replace('_', '-')}", json.dumps(v) if isinstance(v, dict) else str(v))
    ]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # commands set them; this restores them


@pytest.fixture
def masf(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs ``masf`` in this process; its exit code and what it wrote to standard error."""

    def run(command: str, **options: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["masf", *command.split(), *words(options)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def truth(masf: Callable, tmp_path: Path) -> Path:
    path = tmp_path / "truth.nc"
    assert masf("simulate", **CELL, output=path)[0] == 0
    return path


@contextmanager
def no_change(folder: Path) -> Iterator[None]:
    """Holds that the block changes no file in ``folder``, and leaves none behind."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# Stages by hand


CHEAP_STAGES = ("truth.nc", "enkf.nc", "masf.nc")


def cheap_stages(folder: Path, **changes: Any) -> list[list[str]]:
    """Command lines that make CHEAP_STAGES: a truth, and the estimates of two filters, one of them
    MASF without a network.
    """
    gaussian = {"network": False, "covariance": "ensemble"}
    return [
        ["simulate", *words(CELL | changes | {"output": folder / "truth.nc"})],
        [
            "assimilate",
            *words({"filter": "enkf", "truth": folder / "truth.nc", "output": folder / "enkf.nc"}),
        ],
        [
            "assimilate",
            *words(
                {
                    "filter": "masf",
                    "parameters": gaussian,
                    "truth": folder / "truth.nc",
                    "output": folder / "masf.nc",
                }
            ),
        ],
    ]


@pytest.mark.parametrize(
    ("observation", "measured"),
    [
        ({"operator": "grid", "stride": 4}, lambda field: field[:, :, ::4, ::4]),
        ({"operator": "centre", "width": 6}, lambda field: field[:, :, 5:11, 5:11]),
        (
            {"operator": "hole", "width": 6},
            lambda field: np.delete(
                field.reshape(-1, 2, 256),
                [16 * i + j for i in range(5, 11) for j in range(5, 11)],
                axis=-1,
            ),
        ),
        ({"operator": "random", "fraction": 0.2}, None),
        (
            {"operator": "average_pooling", "size": 4},
            lambda field: field.reshape(-1, 2, 4, 4, 4, 4).mean(axis=(3, 5)),
        ),
    ],
    ids=lambda value: value["operator"] if isinstance(value, dict) else "",
)
def test_a_flow_is_simulated_and_assimilated_with_each_observation_of_grids(
    observation: dict[str, Any], measured: Callable | None, masf: Callable, tmp_path: Path
) -> None:
    flow = {
        "system": "kolmogorov",
        "parameters": {"size": 16},
        "observation": observation | {"noise": 0.1},
    }
    cell = CELL | flow | {"gap": 2, "cycles": 3, "members": 30, "initial_spread": 0.5}
    truth, output = tmp_path / "truth.nc", tmp_path / "enkf.nc"
    assert masf("simulate", **cell, output=truth)[0] == 0
    assert masf("assimilate --filter enkf", truth=truth, output=output)[0] == 0
    found, data = read_truth(truth), read_estimate(output)
    field = found.truth[2::2].reshape(-1, 2, 16, 16)
    if measured is not None:
        noise = found.observation - measured(field).reshape(3, -1)
        # Its standard deviation has a relative error of (2 m)^(-1/2), with m of 96 at least.
        assert np.std(noise) == pytest.approx(0.1, rel=0.3)
    else:
        assert found.observation.shape == (3, 2 * round(0.2 * 16**2))
    assert not data.attrs["diverged"]
    # The analysis is nearer to the measurements than the forecast of the step before.
    before, after = (
        build(found.settings)[1].apply(data["mean"].values[1:3].reshape(2, -1))
        - found.observation[0]
    )
    assert np.std(after) < 0.8 * np.std(before)


IN_ANOTHER_PROCESS = """
import json, sys
from masf.cli import commands
for words in json.loads(sys.argv[1]):
    commands(words, standalone_mode=False)
print("torch" in sys.modules)
"""


def test_cheap_stages_need_no_torch_and_the_same_seed_gives_identical_files(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        lines = json.dumps(cheap_stages(tmp_path / name, seed=seed))
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", IN_ANOTHER_PROCESS, lines],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "False"
    for name in CHEAP_STAGES:
        content = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "same" / name).read_bytes() == content
        assert (tmp_path / "other" / name).read_bytes() != content
    one, other = (read_truth(tmp_path / name / "truth.nc") for name in ("one", "other"))
    for array in ("truth", "observation", "initial_mean", "initial_ensemble"):
        assert not np.any(getattr(one, array) == getattr(other, array))


def test_assimilate_records_how_the_estimate_was_made(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    output, cost = tmp_path / "calm.nc", tmp_path / "calm.cost.json"
    options = {
        "filter": "calm",
        "module": "enkf",
        "parameters": {"inflation": 1.1},
        "saved_members": 2,
    }
    assert masf("assimilate", **options, truth=truth, output=output, cost=cost)[0] == 0
    data = read_estimate(output)
    assert data.attrs["filter"] == "calm"
    assert data.attrs["filter_module"] == "enkf"
    assert json.loads(data.attrs["filter_parameters"]) == {"inflation": 1.1}
    assert data.attrs["diverged"] == 0
    assert data["member"].shape == (2, CELL["cycles"], 3)
    seconds = read_cost(cost)
    assert len(seconds["wall_seconds"]) == CELL["cycles"]
    assert all(s > 0 for s in seconds["wall_seconds"])
    assert seconds["model_runs"] == data["model_runs"].values.tolist()
    assert seconds["model_runs"] == [CELL["members"]] * CELL["cycles"]
    assert seconds["peak_memory_mib"] > 1


@pytest.mark.parametrize("filter_name", ["enkf", "ensf"])
def test_seeds_of_one_job_have_the_results_of_jobs_of_their_own(
    filter_name: str, tmp_path: Path
) -> None:
    def run(folder: str, seeds: list[int]) -> None:
        files = [tmp_path / folder / str(seed) for seed in seeds]
        simulated = [
            *words(ONE_SEED_LESS),
            *(w for seed, f in zip(seeds, files, strict=True) for w in words(
                {"seed": seed, "output": f / "truth.nc"}
            )),
        ]  # fmt: skip
        assert CliRunner().invoke(commands, ["simulate", *simulated]).exit_code == 0
        assimilated = [
            *words({"filter": filter_name}),
            *(w for f in files for w in words(
                {"truth": f / "truth.nc", "output": f / "f.nc", "cost": f / "f.cost.json"}
            )),
        ]  # fmt: skip
        assert CliRunner().invoke(commands, ["assimilate", *assimilated]).exit_code == 0

    run("together", [3, 4])
    run("apart", [3])
    run("apart", [4])
    for name in ("3/truth.nc", "4/truth.nc", "3/f.nc", "4/f.nc"):
        assert (tmp_path / "together" / name).read_bytes() == (
            tmp_path / "apart" / name
        ).read_bytes()
    assert (
        len(read_cost(tmp_path / "together" / "4" / "f.cost.json")["wall_seconds"])
        == (CELL["cycles"])
    )


@pytest.mark.parametrize(
    ("stage", "given", "said"),
    [
        ("simulate", "--seed 1 --seed 2", "--output is given 1 times, and --seed 2"),
        ("assimilate", "--truth pyproject.toml --truth README.md", "--output is given 1 times"),
    ],
)
def test_seeds_without_an_output_of_their_own_are_refused(
    stage: str, given: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    about = {"simulate": words(ONE_SEED_LESS), "assimilate": words({"filter": "enkf"})}[stage]
    done = CliRunner().invoke(commands, [stage, *about, *given.split(), "-o", "results/x.nc"])
    assert done.exit_code == 2
    assert said in done.output


def test_prior_is_the_same_twice_and_serves_the_filter(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    for name in ("prior.safetensors", "again.safetensors"):
        assert (
            masf(
                "train-prior",
                **SYSTEM,
                settings=PRIOR,
                seed=7,
                device="cpu",
                output=tmp_path / name,
            )[0]
            == 0
        )
    assert (tmp_path / "prior.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()
    recorded, _ = read_prior(tmp_path / "prior.safetensors", "np")
    assert recorded["device"] == "cpu"
    assert recorded["threads"] == str(torch.get_num_threads())
    options = {
        "filter": "masf",
        "parameters": {"steps": 2, "finetune_steps": 1},
        "prior": tmp_path / "prior.safetensors",
    }
    for name in ("masf.nc", "masf_again.nc"):
        assert (
            masf("assimilate", **options, truth=truth, device="cpu", output=tmp_path / name)[0] == 0
        )
    assert (tmp_path / "masf.nc").read_bytes() == (tmp_path / "masf_again.nc").read_bytes()
    assert np.all(np.isfinite(read_estimate(tmp_path / "masf.nc")["mean"]))


def test_tuned_parameters_are_used_and_recorded(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    situation = {"system": "lorenz63", "observation": "all", "gap": 5}
    options = {"filter": "calm", "module": "enkf", "parameters": {"inflation": 1.0}, "truth": truth}
    tuned, journal = tmp_path / "calm.json", tmp_path / "calm.journal"

    def kept() -> list[str]:
        return [
            line
            for line in journal.read_text(encoding="utf-8").splitlines()
            if '"datetime_complete"' in line
        ]

    searching = {
        "search": {"inflation": [1.5]},
        "situation": situation,
        "trials": 2,
        "storage": journal,
        "output": tuned,
    }
    assert masf("tune", **options, **searching)[0] == 0
    content, trials = tuned.read_bytes(), kept()
    assert len(trials) == 2
    outcome = json.loads(content)
    assert [trial["parameters"] for trial in outcome["trials"]] == [
        {"inflation": 1.0},
        {"inflation": 1.5},
    ]
    assert outcome["seeds"] == [CELL["seed"]]
    assert (outcome["device"], outcome["threads"]) == ("numpy", 1)  # not what was asked for, "auto"
    assert masf("tune", **options, **searching)[0] == 0
    assert tuned.read_bytes() == content
    assert kept() == trials  # nothing was run again
    outcome["chosen"] = {"inflation": 1.25}
    tuned.write_text(json.dumps(outcome), encoding="utf-8")
    for more, inflation, source in (
        ({}, 1.0, "default"),
        ({"tuned": tuned}, 1.25, "tuned at lorenz63, observation all, gap 5"),
        (
            {"tuned": tuned, "pinned": {"inflation": 1.1}},
            1.1,
            "tuned at lorenz63, observation all, gap 5; pinned inflation",
        ),
    ):
        assert masf("assimilate", **options, **more, output=tmp_path / "calm.nc")[0] == 0
        attributes = read_estimate(tmp_path / "calm.nc").attrs
        assert json.loads(attributes["filter_parameters"]) == {"inflation": inflation}
        recorded = ParameterSource.model_validate_json(attributes["parameter_source"])
        assert source_in_words(recorded) == source


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        ({"search": {"inflation": [0.5]}}, ["inflation = 0.5", "greater than or equal to 1"], 1),
        ({"search": {"inflation": {"low": 2, "high": 1}}}, ["low 2 must be less than high 1"], 1),
        ({"search": {"inflatoin": [1.5]}}, ["no parameter inflatoin", "inflation"], 1),
        ({"score": "skill"}, ["'skill'", "rmse, rmse_analysis"], 1),
        ({"trials": 0}, ["--trials", "x>=1"], 2),
    ],
)
def test_unfit_search_is_refused(
    options: dict[str, Any], said: list[str], code: int, masf: Callable, truth: Path, tmp_path: Path
) -> None:
    situation = {"system": "lorenz63", "observation": "all", "gap": 5}
    usual = {
        "filter": "enkf",
        "search": {"inflation": [1.5]},
        "situation": situation,
        "trials": 2,
        "truth": truth,
    }
    files = {"storage": tmp_path / "enkf.journal", "output": tmp_path / "enkf.json"}
    refused(masf("tune", **usual | options | files), *said, code=code)
    assert not (tmp_path / "enkf.json").exists()


def test_tuned_parameters_of_another_filter_are_refused(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.json"
    situation = {"system": "lorenz63", "observation": "all", "gap": 5}
    searching = {
        "search": {"inflation": [1.5]},
        "situation": situation,
        "trials": 1,
        "storage": tmp_path / "j",
        "output": tuned,
    }
    assert masf("tune", filter="enkf", truth=truth, **searching)[0] == 0
    with no_change(tmp_path):
        options = {
            "filter": "masf",
            "parameters": {"network": False, "covariance": "ensemble"},
            "truth": truth,
            "tuned": tuned,
        }
        refused(
            masf("assimilate", **options, output=tmp_path / "masf.nc"),
            str(tuned),
            "'enkf'",
            "'masf'",
        )


def test_tuned_settings_are_printed_or_written_as_yaml(
    masf: Callable, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(masf(f"tuned-settings {tmp_path}"), "holds no tuning/*.json")
    folder = tmp_path / "lorenz63" / "dt~0.01" / "all" / "gap~5" / "members~10" / "tuning"
    situation = {"system": "lorenz63", "observation": "all", "gap": 5}
    files = {"storage": folder / "enkf.journal", "output": folder / "enkf.json"}
    assert (
        masf(
            "tune",
            filter="enkf",
            search={"inflation": [1.5]},
            situation=situation,
            trials=2,
            truth=truth,
            **files,
        )[0]
        == 0
    )
    with capsys.disabled():
        done = subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-c",
                "from masf.cli import main; main()",
                "tuned-settings",
                str(tmp_path),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    (setting,) = yaml.safe_load(done.stdout)["settings"]
    assert setting["when"] == {"system": "lorenz63"}
    assert setting["parameters"] == json.loads((folder / "enkf.json").read_text())["chosen"]
    assert (setting["found"]["by"], setting["found"]["seeds"]) == ("masf tune", [3])
    # With --output, they go into the files of tuned values.
    assert masf(f"tuned-settings {tmp_path} --output {tmp_path / 'tuned'}")[0] == 0
    assert yaml.safe_load((tmp_path / "tuned" / "enkf.yaml").read_text())["settings"] == [setting]


def test_what_is_pinned_is_in_force_in_every_trial_and_goes_with_what_was_found(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lorenz63" / "dt~0.01" / "all" / "gap~5" / "members~10" / "tuning"
    options = {
        "filter": "letkf",
        "parameters": {"rotation": True, "localization_radius": None},
        "pinned": {"rotation": False},
        "search": {"inflation": [1.5]},
        "situation": {"system": "lorenz63", "observation": "all", "gap": 5},
        "trials": 1,
        "truth": truth,
    }
    files = {"storage": folder / "letkf.journal", "output": folder / "letkf.json"}
    assert masf("tune", **options, **files)[0] == 0
    outcome = json.loads((folder / "letkf.json").read_text(encoding="utf-8"))
    assert outcome["parameters"]["rotation"] is False
    assert masf(f"tuned-settings {tmp_path} --output {tmp_path / 'tuned'}")[0] == 0
    (setting,) = yaml.safe_load((tmp_path / "tuned" / "letkf.yaml").read_text())["settings"]
    assert setting["parameters"] == {**outcome["chosen"], "rotation": False}
    assert setting["found"]["note"] == "pinned: rotation"


class Broken(Filter):
    """A filter whose third analysis is not a number."""

    analyses = 0

    def analyse(self, state: Any, y: Any) -> Any:
        self.analyses += 1
        return state * (np.nan if self.analyses == 3 else 1.0)


def test_study_by_hand_from_config_to_figures_counts_a_filter_that_returns_nan(
    masf: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masf.filters.free_run.filter", Broken)
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    config.update(
        results=str(tmp_path),
        filters=["masf", "enkf", "free_run"],
        filters_directory=str(ROOT / "config" / "filters"),
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    study = tmp_path / "study.json"
    assert masf("study", config=tmp_path / "config.yaml", output=study) == (0, "")
    checked = load_study(study)
    for seed in (0, 1):
        place = f"lorenz63/dt~0.01/all/gap~5/members~10/seed~{seed}"
        folder = tmp_path / place
        assert masf("simulate", **CELL | {"seed": seed}, output=folder / "truth.nc")[0] == 0
        for name in ("masf", "enkf", "free_run"):
            files = {
                "truth": folder / "truth.nc",
                "output": folder / f"{name}.nc",
                "cost": folder / f"{name}.cost.json",
            }
            parameters = checked.default_parameters(name, checked.cells[place])
            assert (
                masf(
                    "assimilate",
                    filter=name,
                    parameters=parameters,
                    pinned=checked.config.pinned.get(name, {}),
                    **files,
                )[0]
                == 0
            )
    broken = read_estimate(folder / "free_run.nc")
    assert broken.attrs["diverged"] == 1
    assert broken.attrs["diverged_at_cycle"] == 3
    # Two cycles of five steps stand, and the initial time.
    assert np.isfinite(broken["rmse"].values).tolist() == [True] * 11 + [False] * 10

    scores = tmp_path / "scores.parquet"
    assert (
        masf(
            "aggregate",
            study=study,
            scores=scores,
            costs=tmp_path / "costs.parquet",
            tables=tmp_path / "tables",
        )[0]
        == 0
    )
    rows = pd.read_parquet(scores).set_index(["filter", "seed"])
    assert rows["diverged"].to_dict() == {
        (f, s): f == "free_run" for f in ("masf", "enkf", "free_run") for s in (0, 1)
    }
    assert rows["rmse"].isna().to_dict() == rows["diverged"].to_dict()
    table = pd.read_csv(tmp_path / "tables" / "lorenz63.csv").set_index("filter")
    assert np.isnan(table.loc["free_run", "rmse_mean"])
    assert table.loc["free_run", "diverged"] == table.loc["free_run", "runs"] == 2
    assert np.isfinite(table.loc["enkf", "rmse_mean"])
    assert "diverged | 2 of 2" in " ".join(
        (tmp_path / "tables" / "lorenz63.md").read_text(encoding="utf-8").split()
    )

    for figure in ("trajectories", "sweep"):
        pdf, png = tmp_path / f"{figure}.pdf", tmp_path / f"{figure}.png"
        assert (
            masf(f"plot {figure} --output {pdf} --output {png}", study=study, scores=scores)[0] == 0
        )
        assert pdf.read_bytes().startswith(b"%PDF")
        assert png.read_bytes().startswith(b"\x89PNG")


def test_figures_of_results_that_were_moved_are_drawn_in_the_formats_asked_for(
    masf: Callable, tmp_path: Path
) -> None:
    written = small_study(tmp_path / "made")
    write_results(written)
    (tmp_path / "made" / "study.json").write_text(written.to_json(), encoding="utf-8")
    gather(written)[0].to_parquet(tmp_path / "made" / "scores.parquet")
    moved = (tmp_path / "made").rename(tmp_path / "moved")
    assert masf("plot paths --format pdf,svg", results=moved, folder=tmp_path / "paper")[0] == 0
    assert masf("plot sweep --format csv", results=moved, folder=tmp_path / "paper")[0] == 0
    assert {path.name for path in (tmp_path / "paper").iterdir()} == {
        "paths.pdf",
        "paths.svg",
        "sweep.csv",
    }
    style = "{width: single, labels: {enkf: Ours}}"
    options = {"results": moved, "folder": tmp_path / "styled", "style": style}
    assert masf("plot sweep --format svg --filters enkf", **options)[0] == 0
    width = (tmp_path / "styled" / "sweep.svg").read_text(encoding="utf-8").split('width="')[1]
    assert float(width.split("pt")[0]) == pytest.approx(85 / 25.4 * 72, rel=1e-3)
    refused(
        masf("plot sweep --format svg --filters enkf", **options | {"style": "{width: thin}"}),
        "figures.sweep.style.width",
        "'single' or 'double'",
    )
    code, said = masf("plot sweep --format svg --filters letkf", **options)
    assert code == 1
    assert "figures.sweep.filters = ['letkf']: none of them runs" in said
    refused(masf("plot sweep --format csv", results=tmp_path), "holds no study.json")
    refused(masf("plot sweep", results=moved), "--output or --format", code=2)
    refused(
        masf("plot sweep --format csv", scores=moved / "scores.parquet"), "--results, or", code=2
    )


def test_schemas_are_written(masf: Callable, tmp_path: Path) -> None:
    assert masf("schema", output=tmp_path)[0] == 0
    assert {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()
    } == json_schemas()


def test_help_names_every_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["masf", "--help"])
    main()
    text = capsys.readouterr().out
    for stage in ("study", "simulate", "train-prior", "tune", "assimilate", "aggregate", "plot"):
        assert f"\n  {stage} " in text


# Bad input: one clear message, exit code 1, no file left and none changed


def refused(result: tuple[int, str], *said: str, code: int = 1) -> None:
    found, err = result
    assert found == code
    for text in said:
        assert text in err
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("masf: error: ")
        assert err.count("\n") == 1


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_a_changed_byte(path: Path) -> None:
    """In the middle of a chunk of the truth, whose bytes are shuffled and compressed."""
    first = read_truth(path).truth[0].tobytes()
    content = bytearray(path.read_bytes())
    found = []
    for start in (i for i, byte in enumerate(content) if byte == 0x78):  # of zlib's first byte
        stream = zlib.decompressobj()
        with suppress(zlib.error):
            chunk = np.frombuffer(stream.decompress(content[start:]), np.uint8)
            if len(chunk) % 4 == 0 and chunk.reshape(4, -1).T.tobytes().startswith(first):
                found.append((start, len(content) - len(stream.unused_data)))
    start, end = found[0]
    content[(start + end) // 2] ^= 1
    path.write_bytes(content)


def damage_by_text(path: Path) -> None:
    path.write_text("time,x,y,z\n0,1,2,3\n", encoding="utf-8")


def damage_by_another_netcdf(path: Path) -> None:
    xr.Dataset({"temperature": ("x", np.arange(3.0))}).to_netcdf(path)


def damage_by_an_older_format(path: Path) -> None:
    with xr.open_dataset(path) as data:
        older = data.load().assign_attrs(format="masf-truth-0")
    older.to_netcdf(path)


def damage_by_a_missing_variable(path: Path) -> None:
    with xr.open_dataset(path) as data:
        lacking = data.load().drop_vars("observation")
    lacking.to_netcdf(path)


def damage_by_nan(path: Path) -> None:
    with xr.open_dataset(path) as data:
        spoilt = data.load()
    spoilt["truth"][0, 0] = np.nan
    spoilt.to_netcdf(path)


def damage_by_infinity(path: Path) -> None:
    with xr.open_dataset(path) as data:
        spoilt = data.load()
    spoilt["observation"][0, 0] = np.inf  # NaN is a measurement that is missing
    spoilt.to_netcdf(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_by_cutting, "is truncated or no NetCDF file"),
        (damage_by_emptying, "is truncated or no NetCDF file"),
        (damage_by_a_changed_byte, "is truncated or no NetCDF file"),
        (damage_by_text, "is truncated or no NetCDF file"),
        (damage_by_another_netcdf, "has format None, expected 'masf-truth-2'"),
        (damage_by_an_older_format, "has format 'masf-truth-0', expected 'masf-truth-2'"),
        (damage_by_a_missing_variable, "lacks"),
        (damage_by_nan, "holds values of truth that are not finite"),
        (damage_by_infinity, "holds values of observation that are not finite"),
        (Path.unlink, "does not exist"),
    ],
)
def test_damaged_truth_is_named_and_a_good_estimate_stays(
    damage: Callable[[Path], object], said: str, masf: Callable, truth: Path, tmp_path: Path
) -> None:
    options = {
        "filter": "enkf",
        "truth": truth,
        "output": tmp_path / "enkf.nc",
        "cost": tmp_path / "enkf.cost.json",
    }
    assert masf("assimilate", **options)[0] == 0
    damage(truth)
    with no_change(tmp_path):
        refused(masf("assimilate", **options), str(truth), said, "stage simulate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filter": "enfk"}, ["unknown filter 'enfk'", "enkf, enkf_hybrid, enkf_localized"]),
        (
            {"filter": "enkf", "parameters": {"inflation": 0.5}},
            ["inflation = 0.5", "greater than or equal to 1"],
        ),
        ({"filter": "enkf", "parameters": {"inflatoin": 1.5}}, ["inflatoin: unknown key"]),
        ({"filter": "kalman"}, ["'kalman'", "linear"]),
        ({"filter": "masf"}, ["pretrained prior", "train-prior"]),
        (
            {"filter": "masf", "prior": "nothing.safetensors"},
            ["nothing.safetensors", "train-prior"],
        ),
    ],
)
def test_unfit_filter_is_refused(
    options: dict[str, Any], said: list[str], masf: Callable, truth: Path, tmp_path: Path
) -> None:
    with no_change(tmp_path):
        refused(masf("assimilate", **options, truth=truth, output=tmp_path / "out.nc"), *said)


def test_garbage_prior_is_named(masf: Callable, truth: Path, tmp_path: Path) -> None:
    prior = tmp_path / "prior.safetensors"
    prior.write_bytes(b"\x00garbage" * 100)
    with no_change(tmp_path):
        refused(
            masf("assimilate", filter="masf", truth=truth, prior=prior, output=tmp_path / "out.nc"),
            str(prior),
            "train-prior",
        )


def test_missing_gpu_is_named(
    masf: Callable, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(
        masf("assimilate", filter="enkf", device="cuda", truth=truth, output=tmp_path / "out.nc"),
        "'cuda'",
        "--device cpu",
    )


def test_every_command_with_a_device_claims_a_card_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Claimed(Exception):
        pass

    def claim() -> None:
        raise Claimed

    monkeypatch.setattr("masf.devices.claim_card", claim)
    monkeypatch.setattr("os.environ", dict(os.environ))
    with_device = {
        name: {
            option.name: () if getattr(option, "multiple", False) else None
            for option in command.params
            if option.expose_value
        }
        for name, command in commands.commands.items()
        if any(option.name == "device" for option in command.params)
    }
    assert with_device.keys() == {"assimilate", "run", "train-prior", "tune"}
    for name, options in with_device.items():
        given = options | {"device": "cuda", "threads": 1}
        with pytest.raises(Claimed):
            commands.commands[name].callback(**given)


def test_ensemble_of_one_member_is_refused(masf: Callable, tmp_path: Path) -> None:
    refused(
        masf("simulate", **CELL | {"members": 1}, output=tmp_path / "truth.nc"),
        "--members",
        "1",
        "x>=2",
        code=2,
    )
    settings = CellSettings(**CELL | {"members": 1, "initial_spread": 1.0})
    alone = Truth(
        settings,
        np.zeros((21, 3), "f4"),
        np.zeros((4, 3), "f4"),
        np.zeros(3, "f4"),
        np.zeros((1, 3), "f4"),
    )
    write_truth(tmp_path / "truth.nc", alone, make_system("lorenz63", {"dt": 0.01}), "")
    refused(
        masf("assimilate", filter="enkf", truth=tmp_path / "truth.nc", output=tmp_path / "enkf.nc"),
        "1 member",
        "at least 2",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["truth.nc"]


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        ({"gap": -1}, ["--gap", "gap is -1: expected at least 1"], 2),
        ({"parameters": "{dt"}, ["--parameters", "{dt", "not JSON"], 2),
        ({"parameters": "[1]"}, ["--parameters", "[1]", "JSON object"], 2),
        ({"system": "lorenz64"}, ["unknown system 'lorenz64'", "lorenz63, lorenz96"], 1),
        ({"parameters": {}}, ["dt: this key is missing"], 1),
        ({"parameters": {"dt": 1.0}}, ["truth is not finite", "dt 1.0", "too long"], 1),
        (
            {"observation": {"operator": "matrix", "matrix": [[1, 0]], "noise": 1}},
            ["shape (1, 2)", "(any, 3)"],
            1,
        ),
        (
            {"observation": {"operator": "identity", "noise": 1, "stride": 2}},
            ["'identity'", "'stride'"],
            1,
        ),
    ],
)
def test_unfit_cell_is_refused(
    change: dict[str, Any], said: list[str], code: int, masf: Callable, tmp_path: Path
) -> None:
    with no_change(tmp_path):
        refused(masf("simulate", **CELL | change, output=tmp_path / "truth.nc"), *said, code=code)


@pytest.mark.parametrize(
    ("config", "said", "code"),
    [
        ("missing.yaml", ["missing.yaml", "no such file"], 1),
        ("{bad", ["{bad", "not JSON"], 2),
        ('{"results": "x"}', ["config: seeds: this key is missing"], 1),
    ],
)
def test_unfit_config_is_refused(
    config: str, said: list[str], code: int, masf: Callable, tmp_path: Path
) -> None:
    with no_change(tmp_path):
        found, err = masf("study", config=config, output=tmp_path / "study.json")
    assert found == code
    assert all(text in err for text in said)
    assert "Traceback" not in err


def test_unknown_figure_and_missing_scores_are_refused(
    masf: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = {
        "study": "tests/config/tiny.yaml",
        "scores": tmp_path / "scores.parquet",
        "output": tmp_path / "figure.pdf",
    }
    with no_change(tmp_path):
        refused(masf("plot figure7", **options), "'figure7'", "trajectories, sweep")
        refused(masf("plot sweep", **options), str(tmp_path / "scores.parquet"), "stage aggregate")


def test_aggregate_names_the_result_that_is_missing_or_of_another_cell(
    masf: Callable, truth: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    config.update(results=str(tmp_path), filters_directory=str(ROOT / "config" / "filters"))
    study = tmp_path / "config.yaml"
    study.write_text(yaml.safe_dump(config), encoding="utf-8")
    options = {
        "study": study,
        "scores": tmp_path / "s",
        "costs": tmp_path / "c",
        "tables": tmp_path / "tables",
    }
    first = tmp_path / "lorenz63/dt~0.01/all/gap~5/members~10/seed~0/masf.nc"
    refused(masf("aggregate", **options), str(first), "does not exist", "stage assimilate")
    first.parent.mkdir(parents=True)
    assert masf("assimilate", filter="enkf", truth=truth, output=tmp_path / "enkf.nc")[0] == 0
    shutil.copy(tmp_path / "enkf.nc", first)
    refused(masf("aggregate", **options), str(first), "other settings")
    assert not (tmp_path / "tables").exists()


# Writes that fail midway


@pytest.mark.parametrize("exists", [True, False], ids=["over a good file", "for the first time"])
def test_failed_write_leaves_nothing_behind(
    exists: bool, masf: Callable, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"filter": "enkf", "truth": truth, "output": tmp_path / "enkf.nc"}
    if exists:
        assert masf("assimilate", **options)[0] == 0

    def fill_the_disk(_: xr.Dataset, path: Path, **__: Any) -> None:
        Path(path).write_bytes(b"half of the file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fill_the_disk)
    with no_change(tmp_path):
        refused(masf("assimilate", **options), "No space left on device")
