"""Functions of one's own in a file that an observation names: what is measured by them, what is
recorded of them, and what is said where they are at fault.
"""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import small_study

import masf
from masf.atomic import FileFault, sha256
from masf.files.provenance import content
from masf.observations.settings import observation_settings
from masf.stages.aggregate import gather
from masf.stages.assimilate import assimilate_to_file
from masf.stages.simulate import simulate_to_file
from masf.study.jobs import assimilate_job, simulate_job
from masf.study.load import study_in
from masf.study.messages import ConfigFault
from masf.study.study import Study

GAUGE = """
import numpy as np


def depth(z):
    return z**3 / 50 - z


def slope(z):
    return 3 * z**2 / 50 - 1


def other_slope(z):
    return z


def of_numpy(z):
    return np.sin(np.asarray(z))


def centred(z):
    return z - z.mean(-1)[..., None]


def shorter(z):
    return z[..., 1:]


def broken(z):
    return z + missing_name


def root(z):
    return (z - 1e6) ** 0.5
"""


@pytest.fixture
def gauge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of functions, in the working directory."""
    monkeypatch.chdir(tmp_path)
    content.cache_clear()
    path = tmp_path / "functions" / "gauge.py"
    path.parent.mkdir()
    path.write_text(GAUGE, encoding="utf-8")
    return path


def measuring(name: str, **keys: Any) -> dict[str, Any]:
    said = {"operator": "identity", "noise": 0.5, "transform": f"functions/gauge.py:{name}"}
    return said | keys


def measured(system: masf.System, name: str) -> masf.Observation:
    keys = measuring(name)
    return masf.make_observation(system, keys.pop("operator"), **keys)


@pytest.mark.parametrize("derivative", [{}, {"derivative": "slope"}], ids=["by torch", "given"])
def test_it_is_measured_on_both_backends_with_its_derivative(gauge: Path, derivative: dict) -> None:
    observation = observation_settings(measuring("depth", **derivative)).build(3, None)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    expected = x**3 / 50 - x
    found, in_torch = observation.apply(x), observation.apply(torch.as_tensor(x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(in_torch, expected, rtol=1e-5)
    y = found[0] + np.float32(0.5)
    score = (3 * x**2 / 50 - 1) * (y - expected) / 0.25
    np.testing.assert_allclose(observation.likelihood_score(x, y), score, rtol=1e-4, atol=1e-5)
    in_torch = observation.likelihood_score(torch.as_tensor(x), torch.as_tensor(y))
    np.testing.assert_allclose(in_torch, score, rtol=1e-4, atol=1e-5)
    said = measuring("depth", **derivative, transform_sha256=sha256(gauge))
    assert observation.settings == said


@pytest.mark.usefixtures("gauge")
@pytest.mark.parametrize("name", ["etkf", "ensf", "masf_gaussian", "particle"])
def test_filters_run_with_it_from_files_alone(name: str, tmp_path: Path) -> None:
    system = masf.make_system("lorenz63")
    observation = measured(system, "depth")
    run = {"gap": 5, "cycles": 5, "members": 30}
    problem = masf.simulate(system, observation, **run)
    problem.to_netcdf(tmp_path / "truth.nc")
    keys = {"particles": 500} if name == "particle" else {}
    found = masf.assimilate(problem, name, keys)
    assert np.isfinite(found["mean"].values).all()
    assert "transform_sha256" in json.loads(found.attrs["model_observation"])
    other = simulated_in_python(system, run)
    np.testing.assert_array_equal(other["observation"], problem["observation"])


def simulated_in_python(system: masf.System, run: dict[str, Any]) -> Any:
    """The same, with the function itself."""
    observation = masf.make_observation(
        system, "identity", transform=lambda z: z**3 / 50 - z, noise=0.5
    )
    return masf.simulate(system, observation, **run)


@pytest.mark.usefixtures("gauge")
@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (measuring("width"), r"gauge\.py: has no function 'width'; it has 'broken', 'centred', .*"),
        (measuring("depth", derivative="steep"), r"gauge\.py: has no function 'steep'"),
        (
            measuring("depth", derivative="other_slope"),
            r"function 'other_slope' of .*gauge\.py: is -2.3 at -2.3, where a difference of "
            r"'depth' gives -0\.682",
        ),
        (measuring("centred"), r"function 'centred' of .*gauge\.py: its answer .* with the others"),
        (measuring("shorter"), r"'shorter' of .*gauge\.py: returned shape \(1, 6\) .* \(1, 7\)"),
        (measuring("broken"), r"'broken' of .*gauge\.py: NameError: name 'missing_name' is not"),
        (
            measuring("depth", transform="functions/none.py:depth"),
            r"transform 'functions/none\.py:depth': there is no such file; paths are looked for",
        ),
        (measuring("depth", transform="$NOWHERE/a.py:f"), r"transform '\$NOWHERE.*is not set"),
        (measuring("depth", transform="gauge:depth"), r"as path/to/file\.py:function"),
        (measuring("depth", transform="abs", derivative="slope"), r"'derivative' is slope: it is"),
        (measuring("depth", transform="functions/gauge.py:depth", steepness=2.0), "'steepness'"),
        (measuring("depth", transform_sha256="0" * 64), "the file has another content now"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_at_fault_is_named_with_file_and_function(said: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        observation_settings(said).build(3, None)


def test_a_file_that_cannot_be_run_is_named(gauge: Path) -> None:
    gauge.write_text("import no_such_package_at_all\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"gauge\.py: cannot be run: ModuleNotFoundError: No mod"):
        observation_settings(measuring("depth")).build(3, None)


@pytest.mark.usefixtures("gauge")
def test_a_function_of_numpy_alone_serves_filters_without_torch() -> None:
    observation = observation_settings(measuring("of_numpy")).build(3, None)
    x = np.linspace(-1, 1, 3)
    np.testing.assert_allclose(observation.apply(x), np.sin(x))
    fault = r"function 'of_numpy' of .*gauge\.py: returned ndarray where it was given Tensor"
    with pytest.raises(ValueError, match=fault):
        observation.apply(torch.as_tensor(x))
    with pytest.raises(ValueError, match=r"of_numpy.*torch cannot differentiate it"):
        observation.likelihood_score(x, x)


@pytest.mark.usefixtures("gauge")
def test_measurements_that_are_not_finite_are_not_taken_for_missing() -> None:
    system = masf.make_system("lorenz63")
    observation = measured(system, "root")
    with pytest.raises(ValueError, match=r"gauge\.py:root.* is nan in measurement 1 of cycle 1"):
        masf.simulate(system, observation, gap=5, cycles=2, members=5)


# In a study


def gauged_study(results: Path, **keys: Any) -> Study:
    """Lorenz-63, one cell, measured by the file's function."""
    experiment = {
        "title": "One", "system": "lorenz63", "parameters": {"dt": 0.01},
        "observations": ["gauged"], "gaps": [2], "members": 4, "cycles": 3,
    }  # fmt: skip
    return small_study(
        results,
        observations={"gauged": measuring("depth", **keys)},
        filters=["free_run"],
        seeds={"test": [0]},
        definitions={"free_run": {"label": "Free run"}},
        experiments={"one": experiment},
        figures={},
    )


def run(study: Study) -> None:
    for cell in study.cells.values():
        path = study.results / cell.truth
        simulate_to_file(cell.settings, path)
        assimilate_to_file(
            path,
            study.results / cell.estimate("free_run"),
            name="free_run",
            parameters=study.default_parameters("free_run", cell),
            cost=study.results / cell.cost("free_run"),
        )


def test_a_file_is_an_input_of_what_reads_it_and_its_content_a_part_of_the_version(
    gauge: Path, tmp_path: Path
) -> None:
    def jobs() -> list[Any]:
        study = gauged_study(tmp_path / "results")
        (cell,) = study.cells.values()
        return [simulate_job(study, [cell]), assimilate_job(study, "free_run", [cell])]

    before = jobs()
    for job in before:
        assert job.inputs["functions"] == ["functions/gauge.py"]
    assert sha256(gauge) in before[0].command
    stat = gauge.stat()
    gauge.write_text(GAUGE.replace("50", "60"), encoding="utf-8")
    os.utime(gauge, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as old as the first
    content.cache_clear()
    for old, new in zip(before, jobs(), strict=True):
        assert old.version != new.version


def test_results_of_another_content_are_not_gathered_nor_measured_by(
    gauge: Path, tmp_path: Path
) -> None:
    study = gauged_study(tmp_path / "results")
    run(study)
    assert len(gather(study)[0]) == 1
    (cell,) = study.cells.values()
    gauge.write_text(GAUGE.replace("50", "60"), encoding="utf-8")
    content.cache_clear()
    with pytest.raises(ValueError, match=r"gauge\.py:depth': the file has another content now"):
        assimilate_to_file(
            study.results / cell.truth, tmp_path / "a.nc", name="free_run", parameters={}
        )
    with pytest.raises(FileFault, match="made with other settings than the study's"):
        gather(gauged_study(tmp_path / "results"))


def test_results_are_read_where_the_file_is_not(gauge: Path, tmp_path: Path) -> None:
    study = gauged_study(tmp_path / "results")
    run(study)
    said = study.to_json()
    gauge.unlink()
    assert len(gather(study_in(json.loads(said)))[0]) == 1
    with pytest.raises(ConfigFault, match=r"observations\.gauged: transform .*no such file"):
        gauged_study(tmp_path / "results")


def test_the_guide_s_function_does_what_it_says(gauge: Path) -> None:
    guide = Path(__file__).parent.parent / "docs" / "adding-an-observation.md"
    text = guide.read_text(encoding="utf-8")
    block = text.split("such as `gauge.py`:\n\n```python\n")[1].split("```")[0]
    gauge.write_text(textwrap.dedent(block), encoding="utf-8")
    said = measuring("depth", derivative="slope")
    observation = observation_settings(said).build(3, None)
    assert np.isfinite(observation.apply(np.linspace(-20, 20, 3))).all()
