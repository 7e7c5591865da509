"""Parameters of filters that are files: their content is a part of what made a result."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydantic import Field
from synthetic import small_study
from test_workflow import Project

import masf
from masf.atomic import FileFault, sha256
from masf.files.netcdf import write
from masf.files.provenance import content, with_content
from masf.filters.base import Filter, FilterParameters
from masf.filters.input_files import InputFile, input_files
from masf.programs import files_among, located_values
from masf.stages.aggregate import gather
from masf.stages.assimilate import assimilate_to_file
from masf.stages.simulate import simulate_to_file
from masf.stages.tune import tune_to_file
from masf.study.jobs import Job, assimilate_job, tune_job
from masf.study.load import study_in
from masf.study.messages import ConfigFault
from masf.study.study import Study

GAINED = '''
import numpy as np
from pydantic import Field

from masf.filters.base import Filter, FilterParameters
from masf.filters.input_files import InputFile


class GainedParameters(FilterParameters):
    weights: InputFile = Field(description="A gain, as numpy saves it.")


class Gained(Filter):
    """Draws the members to the measurement by a gain that it reads from a file."""

    Parameters = GainedParameters

    def analyse(self, state, y):
        return state + np.load(self.parameters.weights) * (y - state)


filter = Gained
'''


class GainedParameters(FilterParameters):
    weights: InputFile = Field(description="A gain.")
    others: list[InputFile] = Field(default_factory=list, description="More of them.")


class Gained(Filter):
    Parameters = GainedParameters

    def analyse(self, state: Any, y: Any) -> Any:
        return state + np.load(self.parameters.weights) * (y - state)


def save(path: Path, gain: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.float32(gain))
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setattr("masf.filters.free_run.filter", Gained)
    content.cache_clear()
    return save(tmp_path / "nets" / "gain.npy", 0.3)


def definition(**parameters: Any) -> dict[str, Any]:
    return {"gained": {"filter": "free_run", "label": "Gained", "parameters": parameters}}


def gained_study(results: Path, definitions: dict[str, Any], **changes: Any) -> Study:
    """Lorenz-63 with this filter alone, in one cell."""
    experiment = {
        "title": "One", "system": "lorenz63", "parameters": {"dt": 0.01},
        "observations": ["every_one"], "gaps": [2], "members": 4, "cycles": 3,
    }  # fmt: skip
    return small_study(
        results,
        definitions=definitions,
        filters=["gained"],
        experiments={"one": experiment},
        figures={},
        **changes,
    )


def job(study: Study) -> Job:
    return assimilate_job(study, "gained", [next(iter(study.cells.values()))])


# The type


@pytest.mark.parametrize(
    "written", ["nets/gain.npy", "./nets/../nets/gain.npy", "$SCRATCH/nets/gain.npy", "{absolute}"]
)
def test_a_file_is_an_absolute_path_however_it_is_written(written: str, weights: Path) -> None:
    parameters = GainedParameters(weights=written.format(absolute=weights), others=[weights])
    assert parameters.weights == weights
    assert input_files(parameters) == {"weights": weights, "others.0": weights}
    # As JSON, for what is recorded and searched.
    assert parameters.model_dump() == {"weights": str(weights), "others": [str(weights)]}


def test_a_default_that_is_a_file_is_one(weights: Path) -> None:
    class WithDefault(FilterParameters):
        weights: InputFile = Field(Path("nets/gain.npy"), description="A gain.")

    assert input_files(WithDefault()) == {"weights": weights}


# In memory


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    return masf.simulate(system, observation, gap=2, cycles=3, members=4)


@pytest.mark.parametrize("kind", [str, Path])
def test_an_estimate_says_which_content_it_read(
    kind: type, weights: Path, truth: xr.Dataset
) -> None:
    def estimate() -> xr.Dataset:
        return masf.assimilate(truth, Gained, {"weights": kind("nets/gain.npy")})

    first = estimate()
    assert json.loads(first.attrs["parameter_files"]) == {"weights": sha256(weights)}
    save(weights, 0.6)
    again = estimate()
    assert json.loads(again.attrs["parameter_files"]) == {"weights": sha256(weights)}
    assert first.attrs["parameter_files"] != again.attrs["parameter_files"]
    assert first.attrs["filter_parameters"] == again.attrs["filter_parameters"]
    assert float(abs(first["mean"] - again["mean"]).max()) > 0


@pytest.mark.usefixtures("weights")
def test_a_file_that_is_not_there_is_named_before_anything_runs(
    truth: xr.Dataset, tmp_path: Path
) -> None:
    said = r"weights = '.*nets/none\.npy': there is no such file"
    with pytest.raises(ValueError, match=said):
        masf.assimilate(truth, Gained, {"weights": "nets/none.npy"})
    with pytest.raises(ConfigFault, match=rf"filter 'gained': {said}"):
        gained_study(tmp_path / "results", definition(weights="nets/none.npy"))
    with pytest.raises(ConfigFault, match=r"NOWHERE is not set"):
        gained_study(tmp_path / "results", definition(weights="$NOWHERE/none.npy"))


def test_filters_without_files_have_no_such_record(truth: xr.Dataset) -> None:
    assert "parameter_files" not in masf.assimilate(truth, "enkf").attrs


# In a study


def test_a_file_is_an_input_and_its_content_a_part_of_the_version(
    weights: Path, tmp_path: Path
) -> None:
    study = gained_study(tmp_path / "results", definition(weights="nets/gain.npy"))
    assert job(study).inputs["parameter_files"] == ["nets/gain.npy"]
    # The same without the file, and with another content that is as old.
    plain = with_content(job(study).version.partition("+")[0], [])
    assert job(study).version.startswith(f"{plain}+")
    before = job(study).version
    stat = weights.stat()
    save(weights, 0.6)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    content.cache_clear()
    assert job(study).version != before


def test_files_elsewhere_are_inputs_by_their_absolute_path(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study = gained_study(tmp_path / "results", definition(weights="$SCRATCH/nets/gain.npy"))
    assert job(study).inputs["parameter_files"] == [str(weights)]


def test_results_are_read_where_the_files_are_not(weights: Path, tmp_path: Path) -> None:
    study = gained_study(tmp_path / "results", definition(weights="nets/gain.npy"))
    weights.unlink()
    assert study_in(json.loads(study.to_json())).all_filters == ["gained"]


def test_results_of_another_content_are_not_gathered(weights: Path, tmp_path: Path) -> None:
    study = gained_study(tmp_path / "results", definition(weights="nets/gain.npy"))
    for cell in study.cells.values():
        path = study.results / cell.truth
        simulate_to_file(cell.settings, path)
        assimilate_to_file(
            path,
            study.results / cell.estimate("gained"),
            name="gained",
            module="free_run",
            parameters=study.default_parameters("gained", cell),
            cost=study.results / cell.cost("gained"),
        )
    assert len(gather(study)[0]) == 2
    save(weights, 0.6)
    content.cache_clear()
    with pytest.raises(FileFault, match=r"another content of weights = .*gain\.npy"):
        gather(study)
    weights.unlink()
    content.cache_clear()
    assert len(gather(study)[0]) == 2


def test_files_that_tuning_tries_are_inputs_and_their_contents_tell_searches_apart(
    weights: Path, tmp_path: Path
) -> None:
    other = save(tmp_path / "nets" / "other.npy", 0.5)
    definitions = definition(weights="nets/gain.npy")
    definitions["gained"]["search"] = {"weights": ["nets/gain.npy", "nets/other.npy"]}
    study = gained_study(
        tmp_path / "results",
        definitions,
        seeds={"test": [0], "tuning": [7]},
        tuning={"trials": 2},
    )
    cells = next(iter(study.points.values()))
    both = ["nets/gain.npy", "nets/other.npy"]
    assert tune_job(study, "gained", cells).inputs["parameter_files"] == both
    assert job(study).inputs["parameter_files"] == both
    simulate_to_file(cells[0].settings, tmp_path / "truth.nc")

    def tune() -> dict[str, Any]:
        tune_to_file(
            [tmp_path / "truth.nc"],
            tmp_path / "gained.json",
            name="gained",
            module="free_run",
            command=None,
            parameters={"weights": "nets/gain.npy"},
            search={"weights": both},
            situation=cells[0].situation,
            trials=2,
            score="rmse",
            spin_up_cycles=0,
            storage=tmp_path / "journal",
            prior=None,
            device="cpu",
            threads=1,
        )
        return json.loads((tmp_path / "gained.json").read_text(encoding="utf-8"))

    first = tune()
    assert first["parameter_files"] == {"weights": [sha256(weights), sha256(other)]}
    # Trials of other contents are not taken for these.
    save(other, 0.05)
    again = tune()
    scores = [[trial["score"] for trial in outcome["trials"]] for outcome in (first, again)]
    assert len(scores[0]) == 2
    assert scores[0][0] == scores[1][0]
    assert scores[0][1] != scores[1][1]


# Commands


def test_texts_of_a_command_that_name_files_are_files(weights: Path) -> None:
    parameters = {
        "weights": "$SCRATCH/nets/gain.npy",
        "more": ["nets/gain.npy", {"a": "nets/none.npy"}],
        "label": "nets",
        "folder": "./nets",
        "rate": 0.1,
    }
    assert files_among(parameters) == {"weights": weights, "more.0": weights}
    assert located_values(parameters) == parameters | {
        "weights": str(weights),
        "more": [str(weights), {"a": "nets/none.npy"}],
    }


def test_a_command_s_files_are_tracked_as_those_of_a_class(
    weights: Path, tmp_path: Path, truth: xr.Dataset
) -> None:
    told = tmp_path / "told.json"
    script = Path(__file__).parent / "external_filter.py"
    words = f'echo "$4" > {told}; {sys.executable} {script} "$@"'
    command = shlex.join(["sh", "-c", words, "sh"])
    definitions = {
        "gained": {
            "command": command,
            "label": "Gained",
            "parameters": {"weights": "$SCRATCH/nets/gain.npy"},
        }
    }
    study = gained_study(tmp_path / "results", definitions)
    before = job(study)
    assert before.inputs["parameter_files"] == ["nets/gain.npy"]
    write(tmp_path / "truth.nc", truth)
    assimilate_to_file(
        tmp_path / "truth.nc",
        tmp_path / "gained.nc",
        name="gained",
        command=command,
        parameters={"weights": "$SCRATCH/nets/gain.npy"},
    )
    assert json.loads(told.read_text(encoding="utf-8")) == {"weights": str(weights)}
    with xr.open_dataset(tmp_path / "gained.nc", decode_times=False) as data:
        assert json.loads(data.attrs["parameter_files"]) == {"weights": sha256(weights)}
    save(weights, 0.6)
    content.cache_clear()
    assert job(study).version != before.version


# The workflow


def test_weights_that_were_trained_again_run_the_cells_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    (project.root / "masf" / "filters" / "gained.py").write_text(GAINED, encoding="utf-8")
    (project.root / "config" / "filters" / "gained.yaml").write_text(
        "{label: Gained, parameters: {weights: nets/gain.npy}}\n", encoding="utf-8"
    )
    weights = save(project.root / "nets" / "gain.npy", 0.3)

    def change(config: dict[str, Any]) -> None:
        config["results"] = "results/gained"
        config["filters"] = ["gained"]
        config["seeds"]["test"] = [0]
        config["experiments"]["lorenz63"]["add_filters"] = []
        config["pinned"] = {}
        del config["figures"], config["experiments"]["same_cells"]

    config = project.changed_config(change)
    words = ("snakemake", "--cores", "2", "--configfile", config)
    done = project.run(*words)
    assert done.returncode == 0, done.stdout
    assert project.planned(config) == {}
    scores = (project.root / "results" / "gained" / "scores.csv").read_text(encoding="utf-8")
    stat = weights.stat()
    save(weights, 0.6)
    # As old as the first, as copies and version control may leave it.
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    expected = {"assimilate_gained": 1, "aggregate": 1, "page": 1, "all": 1}
    assert project.planned(config) == expected
    done = project.run(*words)
    assert done.returncode == 0, done.stdout
    assert project.planned(config) == {}
    again = (project.root / "results" / "gained" / "scores.csv").read_text(encoding="utf-8")
    assert again != scores
