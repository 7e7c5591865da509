"""Priors that are shipped with masf: where they are taken, and where not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import masf
from masf.cli import commands
from masf.diffusion.prior_settings import PriorSettings
from masf.files import shipped_priors as shipped
from masf.files.prior import read_prior
from masf.files.shipped_priors import FOLDER, priors_in, shipped_as_trained, shipped_for_gap
from masf.observations.settings import observation_settings
from masf.study.jobs import train_prior_job
from masf.study.load import load_study, make_study
from masf.study.study import Study
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
SHORT = {
    "network": {"width": 4, "blocks": 1},
    "gaps": [4, 8],
    "worlds": 2,
    "rounds": 1,
    "cycles": 2,
    "spin_up_cycles": 0,
    "members": 6,
    "steps": 2,
}
RING = {"dt": 0.01, "dimension": 12, "forcing": 8}
EVERY_SECOND = {"operator": "stride", "stride": 2, "noise": 1.0}


def no_training(*_: Any, **__: Any) -> None:
    pytest.fail("trains a prior")


def problem(**changes: Any) -> Any:
    said = {"forcing": 8, "stride": 2, "gap": 5} | changes
    system = masf.make_system("lorenz96", **(RING | {"forcing": said["forcing"]}))
    observed = masf.make_observation(system, "stride", stride=said["stride"], noise=1.0)
    return masf.simulate(system, observed, gap=said["gap"], cycles=2, members=6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("priors")
    return masf.train_prior(problem(), folder / "ring.safetensors", SHORT, device="cpu").parent


@pytest.fixture
def one_shipped(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if masf were shipped with one small prior."""
    monkeypatch.setattr(shipped, "FOLDER", trained)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return trained / "ring.safetensors"


def study_of_ring(**changes: Any) -> Study:
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    experiment = {
        "title": "A ring", "system": "lorenz96", "parameters": RING, "observations": ["second"],
        "gaps": [5], "members": 6, "cycles": 2,
    }  # fmt: skip
    config |= {
        "filters": ["masf"],
        "pinned": {},
        "seeds": {"test": [0], "training": 7},
        "observations": {"second": EVERY_SECOND},
        "experiments": {"ring": experiment},
        "priors": {"lorenz96": SHORT | {"gaps": [4, 8]}},
        "figures": {},
    }
    config.pop("tuning", None)
    return make_study(config | changes, root=ROOT)


def test_each_shipped_prior_can_be_used_and_says_what_made_it() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = priors_in(FOLDER)
    assert [prior.path for prior in found] == sorted(FOLDER.glob("*.safetensors"))
    for prior in found:
        assert prior.path.stat().st_size < 300_000
        assert f"## {prior.path.name}" in listed
        assert prior.command in listed, f"{FOLDER}/README.md: its command is {prior.command}"
        stage, *words = shlex.split(prior.command)[1:]
        told = commands.commands[stage].make_context(stage, words).params
        metadata, _ = read_prior(prior.path, "np")
        recorded = observation_settings(json.loads(metadata["observation"]))
        assert recorded == observation_settings(told["observation"])
        assert PriorSettings(**told["settings"]) == prior.settings
        for loss in ("held_out_loss", "held_out_loss_gaussian"):
            assert f"{float(metadata[loss]):.3f}" in listed
        assert float(metadata["held_out_loss"]) < float(metadata["held_out_loss_gaussian"])


def test_each_shipped_prior_loads_for_its_system() -> None:
    from masf.diffusion.linear_state import state_shape
    from masf.files.trained_prior import load

    for prior in priors_in(FOLDER):
        system = make_system(prior.system, prior.parameters)
        observation = prior.observation.build(system.dimension, system.grid)
        assert load(prior.path, system, "cpu", state_shape(system, observation))


def test_one_that_fits_is_taken_and_nothing_is_trained(
    one_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masf.stages.train_prior.train", no_training)
    assert masf.train_prior(problem(), device="cpu") == one_shipped
    assert masf.train_prior(problem(gap="4-8"), device="cpu") == one_shipped


@pytest.mark.parametrize(
    "changes", [{"forcing": 9}, {"stride": 3}, {"gap": 3}, {"gap": "5-10"}], ids=str
)
def test_one_of_another_system_observation_or_gap_is_not_taken(
    changes: dict[str, Any], one_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(
        "masf.stages.train_prior.train_prior_to_file", lambda path, **_: made.append(path)
    )
    path = masf.train_prior(problem(**changes), device="cpu")
    assert path != one_shipped
    assert made == [path]


@pytest.mark.parametrize("options", [{"afresh": True}, {"seed": 8}, {"settings": {"steps": 3}}])
def test_what_asks_for_a_training_gets_one(
    options: dict[str, Any], one_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masf.stages.train_prior.train_prior_to_file", lambda *_, **__: None)
    assert masf.train_prior(problem(), device="cpu", **options) != one_shipped


def test_a_file_of_another_format_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old.safetensors").write_bytes(b"of another format")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert shipped_for_gap("lorenz96", RING, observation_settings(EVERY_SECOND), 5) is None
    assert "old.safetensors: is not used" in caplog.text


def test_a_study_takes_one_that_was_trained_as_it_says(one_shipped: Path, tmp_path: Path) -> None:
    study = study_of_ring()
    (prior,) = study.priors.values()
    assert prior.shipped == one_shipped
    job = train_prior_job(study, prior)
    assert (job.gpu, job.version[:8]) == (0, "shipped ")
    stage, *words = shlex.split(job.command)[1:]
    done = CliRunner().invoke(commands, [stage, *words, "-o", str(tmp_path / "p.safetensors")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.safetensors").read_bytes() == one_shipped.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"train_afresh": True},
        {"seeds": {"test": [0], "training": 8}},
        {"priors": {"lorenz96": SHORT | {"steps": 3}}},
        {"observations": {"second": EVERY_SECOND | {"noise": 2.0}}},
    ],
    ids=["train_afresh", "seed", "settings", "observation"],
)
@pytest.mark.usefixtures("one_shipped")
def test_a_study_trains_what_it_says_where_none_was_trained_so(changes: dict[str, Any]) -> None:
    study = study_of_ring(**changes)
    (prior,) = study.priors.values()
    assert prior.shipped is None
    assert "--shipped" not in train_prior_job(study, prior).command


@pytest.mark.usefixtures("one_shipped")
def test_to_take_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (prior,) = study_of_ring().priors.values()
    words = shlex.split(train_prior_job(study_of_ring(), prior).command)[1:]
    said = " ".join(words).replace('"steps": 2', '"steps": 3')
    assert said != " ".join(words)
    words = [word.replace('"steps": 2', '"steps": 3') for word in words]
    done = CliRunner().invoke(commands, [*words, "-o", str(tmp_path / "p.safetensors")])
    assert "no prior of system 'lorenz96' that was trained so is shipped" in str(done.exception)


def test_the_quick_study_and_the_usual_run_train_nothing() -> None:
    study = load_study(ROOT / "config" / "quick.yaml", ROOT)
    needed = {
        study.prior(cell).path: study.prior(cell)
        for cell in study.cells.values()
        for name in cell.filters
        if study.needs_prior(name, cell)
    }
    trained = {path for path, prior in needed.items() if prior.shipped is None}
    assert trained == set()
    for observed in ({"operator": "identity", "noise": 1.0}, EVERY_SECOND):
        ring = {"dt": 0.01, "dimension": 40, "forcing": 8}
        for gap in (5, 20, 50):
            assert shipped_for_gap("lorenz96", ring, observation_settings(observed), gap)
    of_study = next(p for p in needed.values() if p.system == "lorenz96")
    assert shipped_as_trained(
        "lorenz96", of_study.parameters, observation_settings(of_study.observation),
        of_study.settings, 7,
    )  # fmt: skip


@pytest.mark.usefixtures("one_shipped")
def test_masf_run_draws_and_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masf.stages.train_prior.train", no_training)
    figure = tmp_path / "first.png"
    words = (
        "run -p dimension=12 --observation every_second --gap 5 --cycles 4 --members 20 "
        f"-f letkf -f masf --device cpu --plot {figure}"
    )
    done = CliRunner().invoke(commands, words.split())
    assert done.exit_code == 0, done.output
    assert re.findall("^(letkf|masf)\t", done.stdout, re.M) == ["letkf", "masf"]
    with Image.open(figure) as drawn:
        assert drawn.width > 1500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--plot first.gif", "ends in .pdf"),
        ("--train --prior pyproject.toml", "leave out --train"),
        ("--prior pyproject.toml", "--prior pyproject.toml: no filter here takes a prior"),
        ("--train", "--train: no filter here takes a prior"),
    ],
)
def test_masf_run_refuses_options_that_do_not_fit(
    options: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(commands, f"run -f free_run {options}".split())
    assert done.exit_code == 2
    assert said in done.output
