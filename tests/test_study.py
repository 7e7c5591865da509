"""The config: what is accepted, what is refused and in which words, and the cells that it expands
to.
"""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from synthetic import flow_study, small_study

from masf.arrays import Stream
from masf.files.cell import CellSettings, build
from masf.filters.base import Setup
from masf.filters.registry import filter_class, filter_names
from masf.study import paths
from masf.study.earlier import earlier_doubts
from masf.study.jobs import all_jobs
from masf.study.load import (
    json_schemas,
    load_study,
    make_study,
    read_published_setting,
    read_tuned_values,
    require_keys_once_in,
    study_in,
)
from masf.study.markup import read_yaml, require_keys_once
from masf.study.messages import ConfigFault
from masf.study.study import Study
from masf.systems.registry import system_class, system_names

ROOT = Path(__file__).parent.parent
SHIPPED = [
    *(f"config/{name}.yaml" for name in ("config", "quick", "tuning", "dapper")),
    *(f"tests/config/{name}.yaml" for name in ("small", "tiny", "tuned")),
]
FILTER_FILES = sorted(path.name for path in (ROOT / "config" / "filters").glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture
def config() -> dict[str, Any]:
    """The small config, free to be changed: aliases of YAML are made separate."""
    return json.loads(json.dumps(read(ROOT / "tests" / "config" / "small.yaml")))


@pytest.fixture
def filters_folder(config: dict[str, Any], tmp_path: Path) -> Path:
    """A folder of filter files, copies of ours, that ``config`` uses."""
    for name in FILTER_FILES:
        (tmp_path / name).write_text(
            (ROOT / "config" / "filters" / name).read_text(encoding="utf-8"), encoding="utf-8"
        )
    config["filters_directory"] = str(tmp_path)
    return tmp_path


def fault_of(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigFault) as caught:
        make_study(config, root=ROOT)
    return str(caught.value)


def at(study: Study, **situation: Any) -> Any:
    """The one cell of seed 0 in this situation."""
    (cell,) = [
        c
        for c in study.cells.values()
        if {**c.situation, "seed": c.settings.seed}.items() >= {**situation, "seed": 0}.items()
    ]
    return cell


# The configs that are shipped


@pytest.mark.parametrize("path", SHIPPED)
def test_shipped_config_is_accepted_from_any_working_directory(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_study(ROOT / path, ROOT).cells


def test_full_study_computes_each_cell_once() -> None:
    study = load_study(ROOT / "config" / "config.yaml", ROOT)
    # Three sweeps of six points with two observations share one point; Lorenz-63 has one cell,
    # linear_gaussian two of five sizes, kolmogorov five gaps; what is not linear is measured in
    # three situations of Lorenz-96 and three of the flow.
    assert len(study.cells) == 5 * (2 * (3 * 6 - 2) + 1 + 2 * 5 + 5 + 3 + 3)


def test_quick_study_has_every_filter_and_little_to_do() -> None:
    study = load_study(ROOT / "config" / "quick.yaml", ROOT)
    assert set(study.all_filters) == set(filter_names())
    assert max(cell.settings.cycles for cell in study.cells.values()) <= 40
    texts = 2  # study.json and the rule all
    assert len(all_jobs(study)) + texts <= 120
    # Enough seeds that a difference can be told from chance, where filters are compared.
    assert len(study.seeds(study.config.experiments["lorenz96_dimension"])) >= 4


def test_every_filter_has_a_file() -> None:
    files = {Path(name).stem: read(ROOT / "config" / "filters" / name) for name in FILTER_FILES}
    ours = {name: content for name, content in files.items() if "command" not in content}
    assert {name for name, content in ours.items() if "filter" not in content} == set(
        filter_names()
    )
    assert {content.get("filter", name) for name, content in ours.items()} == set(filter_names())


def test_config_and_its_check_need_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from masf.study.load import load_study\n"
        f"load_study(Path({str(ROOT / 'config' / 'config.yaml')!r}), Path({str(ROOT)!r})).cells\n"
        "print(sorted({'torch', 'xarray', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


# JSON schemas


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_schema_file_is_up_to_date(name: str) -> None:
    written = json.loads((ROOT / "workflow" / "schemas" / name).read_text(encoding="utf-8"))
    assert written == json_schemas()[name], "run: masf schema -o workflow/schemas"
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("path", SHIPPED)
def test_config_schema_accepts_shipped_config(path: str) -> None:
    jsonschema.validate(read(ROOT / path), json_schemas()["config.schema.json"])


@pytest.mark.parametrize("name", FILTER_FILES)
def test_filter_schema_accepts_shipped_filter_file(name: str) -> None:
    jsonschema.validate(
        read(ROOT / "config" / "filters" / name), json_schemas()["filter.schema.json"]
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "tuned").glob("*.yaml")), ids=lambda path: path.stem
)
def test_tuned_schema_accepts_shipped_values(path: Path) -> None:
    jsonschema.validate(read(path), json_schemas()["tuned.schema.json"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(resluts="x"),
        lambda c: c.pop("seeds"),
        lambda c: c["experiments"]["lorenz63"].update(gaps=[-1]),
        lambda c: c["experiments"]["lorenz63"].update(cycles="many"),
        lambda c: c["experiments"]["lorenz63"]["parameters"].update(dt=[]),
        lambda c: c["observations"]["all"].update(noise=0),
        lambda c: c["figures"]["figure3"].update(kind="pie"),
        lambda c: c["priors"]["lorenz63"]["network"].update(kind="unet"),
    ],
)
def test_config_schema_refuses(spoil: Callable[[dict], object], config: dict[str, Any]) -> None:
    spoil(config)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, json_schemas()["config.schema.json"])


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"label": "x", "colour": "red"},
        {"label": ""},
        {"label": "x", "resources": {"threads": 0}},
    ],
)
def test_filter_schema_refuses(content: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json_schemas()["filter.schema.json"])


def keys_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, part in [(schema["title"], schema), *schema.get("$defs", {}).items()]:
        for key, node in part.get("properties", {}).items():
            yield f"{title}.{key}", node


def test_every_key_is_described() -> None:
    schemas = list(json_schemas().values())
    schemas += [filter_class(name).Parameters.model_json_schema() for name in filter_names()]
    schemas += [system_class(name).Parameters.model_json_schema() for name in system_names()]
    keys = [pair for schema in schemas for pair in keys_of(schema)]
    assert len(keys) > 100
    assert [key for key, node in keys if not node.get("description")] == []


# Cells


def test_experiments_share_a_cell_and_its_filters(config: dict[str, Any]) -> None:
    config["experiments"]["lorenz96_gap"]["add_filters"] = ["particle"]
    study = make_study(config, root=ROOT)
    cell = at(study, system="lorenz96", dimension=40, forcing=8, observation="all", gap=20)
    assert cell.experiments == ("lorenz96_dimension", "lorenz96_forcing", "lorenz96_gap")
    assert "particle" in cell.filters
    assert len(cell.filters) == len(set(cell.filters))
    assert cell.path == "lorenz96/dimension~40+dt~0.01+forcing~8/all/gap~20/members~100/seed~0"
    assert (
        study.prior(cell).path
        == "lorenz96/dimension~40+dt~0.01+forcing~8/all/prior/prior.safetensors"
    )


@pytest.mark.parametrize(
    ("dimension", "noise", "shared"),
    [(20, 1.0, False), (40, 1.0, True), (1000, 1.0, True), (1000, [1.0] * 1000, False)],
)
def test_long_rings_of_equal_components_share_a_short_ones_prior(
    dimension: int, noise: float | list[float], shared: bool, config: dict[str, Any]
) -> None:
    config["observations"]["all"]["noise"] = noise
    config["experiments"] = {"lorenz96_dimension": config["experiments"]["lorenz96_dimension"]}
    config["experiments"]["lorenz96_dimension"]["parameters"]["dimension"] = dimension
    config["figures"] = {}
    study = make_study(config, root=ROOT)
    trained = 40 if shared else dimension
    (prior,) = study.priors.values()
    assert prior.parameters["dimension"] == trained
    assert (
        prior.path == f"lorenz96/dimension~{trained}+dt~0.01+forcing~8/all/prior/prior.safetensors"
    )


@pytest.mark.parametrize(
    ("key", "value"), [("cycles", 19), ("spin_up_cycles", 4), ("initial_spread", 2.0)]
)
def test_cell_described_in_two_ways_is_refused(
    key: str, value: float, config: dict[str, Any]
) -> None:
    config["experiments"]["lorenz96_forcing"][key] = value
    message = fault_of(config)
    for word in (
        "'lorenz96_dimension'",
        "'lorenz96_forcing'",
        "dimension~40+dt~0.01+forcing~8/all/gap~20",
        key,
    ):
        assert word in message


def test_cells_that_are_shared_have_the_reference_and_the_most_saved_members_of_both(
    config: dict[str, Any],
) -> None:
    del config["figures"]
    experiments = config["experiments"]
    experiments["again"] = copy.deepcopy(experiments["lorenz63"])
    del experiments["again"]["reference"], experiments["again"]["saved_members"]
    cell = at(make_study(config, root=ROOT), system="lorenz63")
    assert (cell.reference, cell.saved_members) == ("particle", 200)
    experiments["again"]["reference"] = "enkf"
    assert "lorenz63" in fault_of(config)
    assert "the same reference" in fault_of(config)


def test_a_figure_names_the_files_that_it_reads(config: dict[str, Any]) -> None:
    study = make_study(config, root=ROOT)
    (place,) = (
        cell.path
        for cell in study.cells.values()
        if cell.settings.system == "lorenz63" and cell.settings.seed == 0
    )
    assert set(study.figure_files("figure3")) == {
        f"{place}/{name}.nc" for name in ({*config["filters"], "truth"} - {"enkf_hybrid"})
    }
    assert study.figure_files("figure4") == []
    assert study.figure_files("model_runs") == ["costs.parquet"]
    ranks = study.figure_files("ranks")
    assert len(ranks) == 2 * (len(config["filters"]) - 1)
    assert all(
        path.startswith("lorenz96/dimension~40+dt~0.01+forcing~8/every_second/gap~20/members~100/")
        for path in ranks
    )


def test_parameters_that_differ_in_the_eighth_digit_are_two_cells(config: dict[str, Any]) -> None:
    config["experiments"]["lorenz96_forcing"]["parameters"]["forcing"] = [8.1234561, 8.1234562]
    paths = [path for path in make_study(config, root=ROOT).cells if "forcing~8.1" in path]
    assert len(paths) == 2 * 2


def test_list_of_sizes_is_an_axis_and_its_cells_share_a_prior(
    config: dict[str, Any], filters_folder: Path
) -> None:
    (filters_folder / "enkf.yaml").write_text(
        "{label: EnKF, settings: [{when: {members: [5, 6]}, parameters: {inflation: 1.3}}]}",
        encoding="utf-8",
    )
    config["experiments"]["linear_gaussian"]["members"] = [5, 50]
    study = make_study(config)
    small, large = (at(study, system="linear_gaussian", members=n) for n in (5, 50))
    assert small.path.endswith("every_second/gap~5/members~5/seed~0")
    assert study.prior(small).path == study.prior(large).path
    assert {**vars(small.settings), "members": 50} == vars(large.settings)
    assert study.filter_parameters("enkf", small) == {"inflation": 1.3}
    assert study.filter_parameters("enkf", large) == {}
    assert study.config.experiments["linear_gaussian"].varied == ["members"]


def test_seed_changes_nothing_but_the_seed(config: dict[str, Any]) -> None:
    first, second = (
        c for c in make_study(config, root=ROOT).cells.values() if c.settings.system == "lorenz63"
    )
    assert (first.settings.seed, second.settings.seed) == (0, 1)
    assert {**vars(first.settings), "seed": 1} == vars(second.settings)


def test_study_json_describes_the_same_study_without_the_filters_files(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(config, root=ROOT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.json").write_text(study.to_json(), encoding="utf-8")
    again = load_study(Path("study.json"))
    assert again.cells == study.cells
    assert again.filters == study.filters
    assert again.to_json() == study.to_json()


def test_study_json_keeps_numbers_that_yaml_would_take_for_text(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config["pinned"] = {"sf": {"learning_rate": 1e-7}}
    study = make_study(config, root=ROOT)
    (tmp_path / "study.json").write_text(study.to_json(), encoding="utf-8")
    assert "1e-7" in study.to_json()
    assert load_study(tmp_path / "study.json").config == study.config


def test_config_does_not_hold_what_filters_files_say(config: dict[str, Any]) -> None:
    config["filter_definitions"] = {"enkf": {"label": "EnKF"}}
    assert "filter_definitions: unknown key" in fault_of(config)
    resolved = {"format": "masf-study-1", "config": config, "filters": {"enkf": {"label": "EnKF"}}}
    with pytest.raises(ConfigFault, match=r"config\.filter_definitions: unknown key"):
        study_in(resolved)


def test_study_json_of_another_layout_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigFault, match='format = "masf-study-9"'):
        study_in({"format": "masf-study-9", "config": config, "filters": {}})


# Parameters of filters


def test_settings_override_parameters_where_they_hold_and_pinned_override_all(
    config: dict[str, Any], filters_folder: Path
) -> None:
    content = {
        "label": "EnKF",
        "parameters": {"inflation": 1.1},
        "settings": [
            {"when": {"system": "lorenz96"}, "parameters": {"inflation": 1.2}},
            {"when": {"system": "lorenz96", "gap": [50, 60]}, "parameters": {"inflation": 1.3}},
            {"when": {"dimension": 20}, "parameters": {"inflation": 1.4}},
            {"when": {"observation": "every_second", "gap": 20}, "parameters": {"inflation": 1.5}},
        ],
    }
    (filters_folder / "enkf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    study = make_study(config)

    def inflation(study: Study, **situation: Any) -> float:
        return study.filter_parameters("enkf", at(study, **situation))["inflation"]

    forty = {"system": "lorenz96", "dimension": 40, "forcing": 8}
    assert inflation(study, system="lorenz63") == 1.1
    assert inflation(study, **forty, observation="all", gap=20) == 1.2
    assert inflation(study, **forty, observation="all", gap=50) == 1.3
    assert inflation(study, system="lorenz96", dimension=20) == 1.4
    assert inflation(study, **forty, observation="every_second", gap=20) == 1.5
    config["pinned"] = {"enkf": {"inflation": 1.6}}
    pinned = make_study(config)
    assert {
        pinned.filter_parameters("enkf", cell)["inflation"] for cell in pinned.cells.values()
    } == {1.6}


def test_file_of_another_name_may_use_the_same_filter(
    config: dict[str, Any], filters_folder: Path
) -> None:
    (filters_folder / "enkf_calm.yaml").write_text(
        "{filter: enkf, label: EnKF (calm)}", encoding="utf-8"
    )
    config["filters"].append("enkf_calm")
    study = make_study(config)
    assert study.filter_module("enkf_calm") == "enkf"
    assert "enkf_calm" in study.all_filters


def test_filter_with_a_command_takes_any_parameters_and_no_prior(
    config: dict[str, Any], filters_folder: Path
) -> None:
    setting = "{when: {gap: 20}, parameters: {c: 2}}"
    text = f"{{command: run it, label: Theirs, parameters: {{a: 1}}, search: {{b: [1]}}, settings: [{setting}]}}"  # noqa: E501
    (filters_folder / "masf.yaml").write_text(text, encoding="utf-8")
    study = make_study(config)
    assert study.filter_command("masf") == "run it"
    assert study.filter_command("enkf") is None
    cell = at(study, system="lorenz96", dimension=20)
    assert study.filter_parameters("masf", cell) == {"a": 1, "c": 2}
    assert not study.needs_prior("masf", cell)


def test_prior_is_needed_only_where_there_is_a_network(config: dict[str, Any]) -> None:
    study = make_study(config, root=ROOT)
    cell = at(study, system="lorenz63")
    assert study.needs_prior("masf", cell)
    assert not study.needs_prior("enkf", cell)
    config["pinned"]["masf"] = {"network": False}
    assert not make_study(config, root=ROOT).needs_prior("masf", cell)


# What is refused. Each message names the key, the value and what is allowed.


def test_radii_of_a_prior_are_held_against_the_ring_that_it_is_trained_on(
    config: dict[str, Any],
) -> None:
    """That of long rings is trained on a short one, whose half they must not pass."""
    half = 40 * math.pi / 8 / 2
    ring = {"dimension": 128, "dt": 0.25, "spacing": math.pi / 8}
    experiment = {
        "title": "A", "system": "kuramoto_sivashinsky", "parameters": ring,
        "observations": ["all"], "gaps": [4], "members": 10, "cycles": 4,
    }  # fmt: skip
    whole = config | {"filters": ["masf"], "figures": {}, "pinned": {}}
    whole |= {"tuning": None, "experiments": {"long": experiment}}
    for radius, fits in ((half - 0.1, True), (half + 0.1, False)):
        whole["priors"] = {"kuramoto_sivashinsky": {"localization_radii": [radius]}}
        with nullcontext() if fits else pytest.raises(ConfigFault, match=r"is 15\.7 across"):
            make_study(whole, root=ROOT)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            lambda c: c["priors"]["lorenz63"].update(localization_radii=[6]),
            ["priors.lorenz63.localization_radii = [6.0]", "has no distances", "[null]"],
            id="prior with a radius where there is no geometry",
        ),
        pytest.param(
            lambda c: c["pinned"].update(enkf_localized={"localization_radius": 5}),
            ["enkf_localized", "localization_radius = 5.0", "lorenz63", "set it to null"],
            id="filter with a radius where there is no geometry",
        ),
        pytest.param(
            lambda c: c["filters"].append("enkff"),
            ["filters = 'enkff'", "unknown filter", "did you mean 'enkf'?", "free_run"],
            id="unknown filter",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(add_filters=["kalmann"]),
            ["experiments.lorenz63.add_filters = 'kalmann'", "did you mean 'kalman'?"],
            id="unknown added filter",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(leave_out_filters=["kalman"]),
            ["experiments.lorenz63.leave_out_filters = 'kalman'", "choose one of", "enkf"],
            id="left-out filter that is not in the study",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(leave_out_filters=c["filters"]),
            ["experiments.lorenz63.leave_out_filters", "no filter"],
            id="experiment without filters",
        ),
        pytest.param(
            lambda c: c.update(fliters=[]),
            ["fliters: unknown key", "did you mean 'filters'?", "allowed are", "experiments"],
            id="unknown key",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(cylces=3),
            [
                "experiments.lorenz63.cylces: unknown key",
                "did you mean 'cycles'?",
                "spin_up_cycles",
            ],
            id="unknown key of an experiment",
        ),
        pytest.param(
            lambda c: c["figures"]["figure4"]["panels"][0].update(axes="gap"),
            ["figures.figure4.panels.0.axes: unknown key", "did you mean 'axis'?"],
            id="unknown key of a panel",
        ),
        pytest.param(
            lambda c: c.pop("seeds"), ["seeds: this key is missing"], id="missing section"
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(gaps=[100, -5]),
            ["experiments.lorenz63.gaps.1 = -5", "gap is -5: expected at least 1"],
            id="negative gap",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(members=1),
            ["experiments.lorenz63.members = 1", "greater than or equal to 2"],
            id="one member",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(cycles="many"),
            ['experiments.lorenz63.cycles = "many"', "valid integer"],
            id="wrong type",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(spin_up_cycles=20),
            ["experiments.lorenz63", "spin_up_cycles 20", "none of 20 cycles"],
            id="spin-up as long as the run",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"]["parameters"].update(dt="short"),
            ['experiments.lorenz63.parameters.dt = "short"', "valid number", "or"],
            id="wrong type of a parameter",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"]["parameters"].update(dt=[]),
            ["experiments.lorenz63.parameters.dt = []", "at least 1 item"],
            id="empty axis",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"]["parameters"].update(dt=-0.01),
            ["experiments.lorenz63.parameters.dt = -0.01", "greater than 0"],
            id="parameter of a system out of range",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz96_gap"]["parameters"].pop("dimension"),
            ["experiments.lorenz96_gap.parameters.dimension", "missing"],
            id="missing parameter of a system",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"]["parameters"].update(rhoo=28),
            ["experiments.lorenz63.parameters.rhoo: unknown key", "did you mean 'rho'?", "sigma"],
            id="unknown parameter of a system",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(system="lorenz633"),
            [
                "experiments.lorenz63.system = 'lorenz633'",
                "did you mean 'lorenz63'?",
                "linear_gaussian",
            ],
            id="unknown system",
        ),
        pytest.param(
            lambda c: c["seeds"].update(tuning=[1, 100]),
            ["seeds [1]", "test and tuning"],
            id="seed in test and tuning",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(add_filters=["kalman"]),
            ["experiments.lorenz63", "'kalman'", "linear systems only", "'lorenz63'"],
            id="kalman on a nonlinear system",
        ),
        pytest.param(
            lambda c: c["observations"].update(
                all={"operator": "matrix", "matrix": [[1, 0]], "noise": 1}
            ),
            ["observations.all", "shape (1, 2)", "expected (any, 3)"],
            id="matrix of the wrong shape",
        ),
        pytest.param(
            lambda c: c["observations"].update(
                all={"operator": "matrix", "matrix": [[1, 0, 0], [1]], "noise": 1}
            ),
            ["observations.all", "different lengths [1, 3]"],
            id="ragged matrix",
        ),
        pytest.param(
            lambda c: c["observations"]["all"].update(noise=[1, 1]),
            ["observations.all", "2 standard deviations", "expected one, or 3"],
            id="noise of the wrong length",
        ),
        pytest.param(
            lambda c: c["observations"]["all"].update(noise=-1),
            ["observations.all.noise = -1", "greater than 0", "or"],
            id="negative noise",
        ),
        pytest.param(
            lambda c: c["observations"]["all"].update(operator="mask"),
            ['observations.all.operator = "mask"', "'identity'", "'stride'", "'matrix'"],
            id="unknown operator",
        ),
        pytest.param(
            lambda c: c["observations"]["all"].update(operator="strid"),
            ['observations.all.operator = "strid": choose one of', "did you mean 'stride'?"],
            id="misspelt operator",
        ),
        pytest.param(
            lambda c: c["observations"]["all"].pop("operator"),
            ["observations.all.operator: this key is missing"],
            id="no operator",
        ),
        pytest.param(
            lambda c: c["observations"].update(all={"operator": "hole", "noise": 1}),
            ["observations.all.width: this key is missing"],
            id="operator without its key",
        ),
        pytest.param(
            lambda c: c["observations"].update(all={"operator": "hole", "noise": 1, "stride": 2}),
            [
                "observations.all: observation operator 'hole' takes no key 'stride'; did you "
                "mean operator 'stride', 'grid'?"
            ],
            id="key of another operator",
        ),
        pytest.param(
            lambda c: c["observations"].update(all={"operator": "stride", "noise": 1, "strid": 2}),
            [
                "observations.all.strid: unknown key (did you mean 'stride'?); allowed are "
                "derivative, missing, noise, offset, operator, steepness, stride, threshold, "
                "transform, transform_sha256"
            ],
            id="misspelt key of an operator",
        ),
        pytest.param(
            lambda c: c["observations"].update(all={"operator": "stride", "noise": 1, "stride": 0}),
            ["observations.all.stride = 0: ", "greater than or equal to 1"],
            id="key that its operator is named by",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(observations=["al"]),
            ["experiments.lorenz63.observations = 'al'", "did you mean 'all'?", "every_second"],
            id="unknown observation",
        ),
        pytest.param(
            lambda c: c["figures"]["figure3"].update(experiment="lorenz36"),
            ["figures.figure3.experiment = 'lorenz36'", "did you mean 'lorenz63'?", "lorenz96_gap"],
            id="unknown experiment in a figure",
        ),
        pytest.param(
            lambda c: c["figures"]["figure3"].update(experiment="lorenz96_gap"),
            ["figures.figure3.experiment = 'lorenz96_gap'", "one cell for each seed"],
            id="trajectories of many cells",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(
                system="linear_gaussian", parameters={"dimension": 2}
            ),
            ["figures.figure3.experiment = 'lorenz63'", "2 components, not 3"],
            id="trajectories of two components",
        ),
        pytest.param(
            lambda c: c["figures"]["figure3"].update(seed=100),
            ["figures.figure3.seed = 100", "[0, 1]"],
            id="figure of a seed that is not run",
        ),
        pytest.param(
            lambda c: c["figures"]["figure3"].update(kind="pie"),
            [
                'figures.figure3.kind = "pie": choose one of',
                "'trajectories', 'sweep', 'rank_histograms'",
            ],
            id="unknown kind of figure",
        ),
        pytest.param(
            lambda c: c["figures"]["figure4"]["panels"][2].update(axis="gaps"),
            [
                "figures.figure4.panels.2.axis = 'gaps'",
                "did you mean 'gap'?",
                "dimension, dt, forcing, gap, members",
            ],
            id="unknown axis",
        ),
        pytest.param(
            lambda c: c["figures"]["figure4"]["panels"][2].update(axis="forcing"),
            ["figures.figure4.panels.2.where = {}", "gap, which the experiment varies"],
            id="panel that would mix the points of another axis",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(members=[10, 1]),
            ["experiments.lorenz63.members = [10, 1]", "greater than or equal to 2"],
            id="one member in a list of sizes",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(members=[10, 20]),
            ["figures.figure3.experiment = 'lorenz63'", "one cell for each seed"],
            id="trajectories of many sizes",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz96_gap"].update(members=[10, 20]),
            ["figures.figure4.panels.2.where = {}", "members, which the experiment varies"],
            id="panel that would mix ensemble sizes",
        ),
        pytest.param(
            lambda c: c["experiments"]["linear_gaussian"].update(reference="kalmann"),
            ["experiments.linear_gaussian.reference = 'kalmann'", "did you mean 'kalman'?"],
            id="unknown reference",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz96_gap"].update(reference="particle"),
            [
                "experiments.lorenz96_gap.reference = 'particle'",
                "unknown filter of this experiment",
            ],
            id="reference that the experiment does not run",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(saved_members=1),
            ["experiments.lorenz63.saved_members = 1", "'particle'", "at least 2"],
            id="too few members for a distance",
        ),
        pytest.param(
            lambda c: c["figures"]["figure4"].update(score="energy_distance"),
            [
                "figures.figure4.panels.0: score 'energy_distance'",
                "'lorenz96_dimension' names none",
            ],
            id="distance without a reference",
        ),
        pytest.param(
            lambda c: c["figures"]["exactness"]["panels"][0].update(score="distance"),
            ["figures.exactness.panels.0.score", "'energy_distance'"],
            id="unknown score of a panel",
        ),
        pytest.param(
            lambda c: c["figures"]["model_runs"]["panels"][0].update(where={}),
            ["figures.model_runs.panels.0.where = {}", "gap, which the experiment varies"],
            id="model runs of many points",
        ),
        pytest.param(
            lambda c: c["figures"]["model_runs"]["panels"][1]["where"].update(members=100),
            ["figures.model_runs.panels.1.where = 'members'", "choose one of"],
            id="model runs of one ensemble size",
        ),
        pytest.param(
            lambda c: c["figures"]["ranks"].update(where={}),
            ["figures.ranks.where = {}", "gap", "which the experiment varies"],
            id="rank histograms of many points",
        ),
        pytest.param(
            lambda c: c["figures"]["ranks"].update(where={"gap": 21}),
            ["figures.ranks.where.gap = 21", "[20, 50]"],
            id="rank histograms of a point that there is not",
        ),
        pytest.param(
            lambda c: c["figures"]["ranks"].update(where={"gap": 20, "dimensoin": 40}),
            ["figures.ranks.where = 'dimensoin'", "did you mean 'dimension'?"],
            id="rank histograms at an unknown axis",
        ),
        pytest.param(
            lambda c: c["figures"]["ranks"].update(observation="some"),
            ["figures.ranks.observation = 'some'", "choose one of all, every_second"],
            id="rank histograms of an unknown observation",
        ),
        pytest.param(
            lambda c: c["figures"]["figure4"]["panels"][0].update(observation="every_second"),
            ["figures.figure4.panels.0.observation = 'every_second'", "choose one of all"],
            id="observation that the experiment lacks",
        ),
        pytest.param(
            lambda c: c.update(pinned={"mas": {"steps": 4}}),
            ["pinned = 'mas'", "did you mean 'masf'?"],
            id="pinned parameters of an unknown filter",
        ),
        pytest.param(
            lambda c: c.update(pinned={"masf": {"step": 4}}),
            ["filter 'masf': step: unknown key", "did you mean 'steps'?", "inflation"],
            id="unknown pinned parameter",
        ),
        pytest.param(
            lambda c: c.update(pinned={"enkf": {"inflation": 0.5}}),
            ["filter 'enkf': inflation = 0.5", "greater than or equal to 1"],
            id="pinned parameter out of range",
        ),
        pytest.param(
            lambda c: c["priors"].pop("lorenz63"),
            ["priors", "'masf'", "'lorenz63'", "add priors.lorenz63"],
            id="no prior for a learned filter",
        ),
        pytest.param(
            lambda c: c["priors"].update(lorenz_63=c["priors"]["lorenz63"]),
            ["priors = 'lorenz_63'", "did you mean 'lorenz63'?"],
            id="prior of an unknown system",
        ),
        pytest.param(
            lambda c: c["priors"]["lorenz63"].update(network={"kind": "conv1d"}),
            ["priors.lorenz63.network.kind = 'conv1d'", "translation-invariant", "'mlp'"],
            id="convolutions where there is no ring",
        ),
        pytest.param(
            lambda c: (
                c.update(pinned={"masf_mc": {"weight_radius": 0}})
                or c["experiments"]["kolmogorov"].update(leave_out_filters=[])
            ),
            ["'masf_mc'", "weight_radius = 0", "'kolmogorov'", "must be positive, or null"],
            id="weights of a mixture that see nothing of a grid",
        ),
        pytest.param(
            lambda c: (
                c.update(pinned={"masf_mc": {"localization_radius": None}})
                or c["experiments"]["kolmogorov"].update(leave_out_filters=[])
            ),
            ["'masf_mc'", "weight_radius = ", "'kolmogorov'", "needs localization_radius"],
            id="weights of a mixture that see a part of a grid, and kernels that see all",
        ),
        pytest.param(
            lambda c: c.update(pinned={"letkf": {"block": 3}}),
            ["'letkf'", "block = 3: does not divide the grid 40", "system 'lorenz96'"],
            id="blocks that do not fill a grid",
        ),
        pytest.param(
            lambda c: c["experiments"].update(
                {"Lorenz-63": copy.deepcopy(c["experiments"]["lorenz63"])}
            ),
            ["experiments.Lorenz-63", "^[a-z][a-z0-9_]*$"],
            id="name that no path should have",
        ),
    ],
)
def test_config_is_refused(
    spoil: Callable[[dict], object], words: list[str], config: dict[str, Any]
) -> None:
    spoil(config)
    message = fault_of(config)
    for word in words:
        assert word in message
    assert "constrained-" not in message


SPREAD_OUT = {"operator": "matrix", "matrix": [[1.0] * 6], "noise": 1.0}
"""A measurement of the mean of six components, which sits nowhere."""
RINGS = {"dt": 0.01, "dimension": 6, "forcing": 8.0}


@pytest.mark.parametrize(
    ("name", "pinned", "system", "parameters", "observation", "said"),
    [
        pytest.param(
            "letkf",
            {},
            "lorenz96",
            RINGS,
            SPREAD_OUT,
            "row 1: measures nothing, or more than half",
            id="row without a place",
        ),
        pytest.param(
            "enkf_localized",
            {"localization_radius": 0.4},
            "kolmogorov",
            {"dt": 0.01, "size": 96},
            {"operator": "identity", "noise": 0.1},
            "forms the covariance of 18432 measurements: the most is 6000",
            id="too many measurements",
        ),
        pytest.param(
            "masf_gaussian",
            {"covariance": "diagonal"},
            "lorenz96",
            RINGS,
            SPREAD_OUT,
            "covariance = 'diagonal': needs an observation that is a mask",
            id="diagonal covariance of what is mixed",
        ),
        pytest.param(
            "masf",
            {"network": False, "covariance": "diagonal"},
            "lorenz96",
            RINGS,
            {"operator": "identity", "noise": (np.eye(6) + 0.1).tolist()},
            "covariance = 'diagonal': needs an observation that is a mask",
            id="diagonal covariance under dependent noise",
        ),
        pytest.param(
            "particle",
            {},
            "lorenz96",
            RINGS | {"dimension": 5001},
            {"operator": "identity", "noise": 1.0},
            "covariance of 5001 x 5001 is too large, the most is 5000",
            id="too many components for particles",
        ),
        pytest.param(
            "masf_mc",
            {"weight_radius": 0},
            "lorenz96",
            RINGS | {"dimension": 5001},
            {"operator": "identity", "noise": 1.0},
            "weight_radius = 0: on this grid",
            id="weights that see nothing of a long ring",
        ),
        pytest.param(
            "masf_mc",
            {"localization_radius": None, "weight_radius": None},
            "kolmogorov",
            {"dt": 0.01, "size": 64},
            {"operator": "identity", "noise": 0.1},
            "forms matrices of 8192 x 8192",
            id="too many components for a mixture",
        ),
        pytest.param(
            "masf_gaussian",
            {"localization_radius": None, "passes": 2, "passes_radius": None},
            "linear_gaussian",
            {"dimension": 4, "model_noise": 0.3},
            {"operator": "identity", "noise": 1.0},
            "passes = 2: this system's model has noise of its own",
            id="passes of a model with noise",
        ),
        pytest.param(
            "masf_gaussian",
            {"localization_radius": None, "passes": 2, "passes_radius": 4.0},
            "lorenz63",
            {"dt": 0.01},
            {"operator": "identity", "noise": 1.0},
            "passes_radius = 4.0: the components",
            id="passes where nothing is near",
        ),
        pytest.param(
            "kalman",
            {},
            "lorenz96",
            RINGS,
            {"operator": "identity", "noise": 1.0},
            "for linear systems only",
            id="not linear",
        ),
    ],
)
def test_a_filter_that_does_not_suit_is_refused_in_the_same_words_by_the_config_and_by_the_filter(
    name, pinned, system, parameters, observation, said, config
):
    experiment = {
        "title": "One",
        "system": system,
        "parameters": parameters,
        "observations": ["one"],
    }
    experiment |= {"gaps": [1], "members": 4, "cycles": 2, "spin_up_cycles": 0}
    config |= {
        "filters": [name],
        "pinned": {name: pinned},
        "observations": {"one": observation},
        "figures": {},
    }
    config |= {"experiments": {"one": experiment}}
    for section in ("tuning", "priors"):
        config.pop(section, None)
    lines = fault_of(config).splitlines()
    place = f"(in experiments.one, system {system!r}, observation 'one')"
    built, observed = build(CellSettings(system, parameters, observation, 1, 2, 4, 1.0, 0))
    cls = filter_class(name)
    definition = read(ROOT / "config" / "filters" / f"{name}.yaml").get("parameters", {})
    with pytest.raises(ValueError, match=said) as caught:
        cls(
            cls.Parameters(**definition | pinned),
            Setup(built, observed, np.zeros(built.dimension), 1.0, Stream(0, "test")),
        )
    fault = str(caught.value).removeprefix(f"filter {cls.__name__}: ")
    assert f"config: filter {name!r}: {fault} {place}" in lines


def test_what_is_wrong_in_many_cells_is_said_once(config):
    config["pinned"] = {"letkf": {"block": 7}}
    faults = [
        line for line in fault_of(config).splitlines() if "'letkf'" in line and "block = 7" in line
    ]
    assert len(faults) == len(set(faults))
    assert sum("the grid 40;" in line for line in faults) == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            lambda c: c["figures"]["fields"].update(filters=["enkf", "letkf"]),
            ["figures.fields.filters = 'letkf'", "choose one of enkf, free_run"],
            id="filter that the experiment does not run",
        ),
        pytest.param(
            lambda c: c["figures"]["fields"].update(cycles=[1, 4]),
            ["figures.fields.cycles = [1, 4]", "[4] are beyond the experiment's 3 cycles"],
            id="fields after the end",
        ),
        pytest.param(
            lambda c: c["figures"]["fields"].update(seed=7),
            ["figures.fields.seed = 7", "[0, 1]"],
            id="fields of a seed that is not run",
        ),
        pytest.param(
            lambda c: c["observations"].update(
                every_fourth={"operator": "stride", "stride": 4, "noise": 0.1}
            ),
            [
                "figures.fields.observation = 'every_fourth'",
                "'stride' does not measure whole velocities",
            ],
            id="measurement that is no velocity",
        ),
        pytest.param(
            lambda c: c["figures"]["film"].update(cycles=4),
            ["figures.film.cycles = 4: [4] are beyond the experiment's 3 cycles"],
            id="animation beyond the last cycle",
        ),
        pytest.param(
            lambda c: c["experiments"]["flow"].update(saved_members=0),
            ["figures.spectra", "saved_members of at least 1"],
            id="spectra without members",
        ),
        pytest.param(
            lambda c: c["experiments"]["flow"].update(
                system="lorenz96", parameters={"dt": 0.01, "dimension": 8, "forcing": 8}
            ),
            [
                "figures.fields.experiment = 'flow': figure 'vorticity' is for flows, and "
                "'lorenz96' is none",
                "figures.spectra.experiment = 'flow'",
                "figures.scores.panels.0: score 'ssim' is for flows",
            ],
            id="figures of a flow that is none",
        ),
        pytest.param(
            lambda c: c["figures"]["scores"]["panels"][1].pop("seed"),
            ["figures.scores.panels.1: axis 'time' shows a single run: it needs a seed"],
            id="time without a seed",
        ),
        pytest.param(
            lambda c: c["figures"]["scores"]["panels"][0].update(seed=0),
            ["figures.scores.panels.0: seed 0 is for axis 'time'"],
            id="seed without time",
        ),
        pytest.param(
            lambda c: c["figures"]["scores"]["panels"][1].update(where={}),
            ["figures.scores.panels.1.where = {}", "gap, which the experiment varies"],
            id="time at many gaps",
        ),
        pytest.param(
            lambda c: c["figures"]["scores"]["panels"][0].update(where={"gap": 2}),
            ["figures.scores.panels.0.where = 'gap'", "choose one of members, size"],
            id="axis that is fixed",
        ),
        pytest.param(
            lambda c: c["figures"]["scores"]["panels"][1].update(score="rmse_analysis"),
            [
                "figures.scores.panels.1: score 'rmse_analysis' is one number for a run",
                "rmse, spread_skill, rmse_forecast",
            ],
            id="score that has no time",
        ),
        pytest.param(
            lambda c: c["experiments"]["flow"].update(seeds=[0, 5]),
            ["experiments.flow.seeds = [0, 5]", "[5] are no test seeds"],
            id="seeds of an experiment that are not the study's",
        ),
        pytest.param(
            lambda c: c["experiments"]["flow"].update(seeds=[0]),
            ["figures.scores.panels.2.seed = 1", "the experiment's test seeds [0]"],
            id="seed that this experiment does not run",
        ),
    ],
)
def test_config_of_a_flow_is_refused(
    spoil: Callable[[dict], object], words: list[str], tmp_path: Path
) -> None:
    config = json.loads(flow_study(tmp_path).config.model_dump_json(exclude_defaults=True))
    spoil(config)
    message = fault_of(config)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "values", "repeated"),
    [
        ("filters", ["enkf", "etkf", "enkf"], "'enkf'"),
        ("seeds.test", [0, 1, 0], "0"),
        ("seeds.tuning", [100, 100], "100"),
        ("experiments.lorenz63.observations", ["all", "all"], "'all'"),
        ("experiments.lorenz63.gaps", [5, "5"], "5"),
        ("experiments.lorenz63.gaps", [[5, 10], "5-10"], "'5-10'"),
        ("experiments.lorenz63.members", [8, 8], "8"),
        ("experiments.lorenz63.seeds", [1, 1], "1"),
        ("experiments.lorenz63.add_filters", ["etkf", "etkf"], "'etkf'"),
        ("experiments.lorenz63.leave_out_filters", ["enkf", "enkf"], "'enkf'"),
        ("experiments.lorenz63.parameters.dt", [0.01, 0.01], "0.01"),
        ("figures.figure3.filters", ["enkf", "enkf"], "'enkf'"),
    ],
)
def test_what_is_listed_twice_is_refused(
    key: str, values: list[Any], repeated: str, config: dict[str, Any]
) -> None:
    *sections, last = key.split(".")
    reduce(getitem, sections, config)[last] = values
    said = f"config: {key} = {json.dumps(values)}: "
    (line,) = [line for line in fault_of(config).splitlines() if line.startswith(said)]
    assert line.endswith(f"names {repeated} twice: name it once")


def test_values_that_tuning_would_try_must_suit_a_situation_only_where_it_tunes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Passes run the model again, which one with noise of its own does not allow."""
    monkeypatch.setattr(system_class("lorenz96"), "stochastic", True)
    config: dict[str, Any] = {
        "results": "results/noisy",
        "seeds": {"test": [0], "tuning": [100]},
        "filters": ["masf_gaussian"],
        "observations": {"all": {"operator": "identity", "noise": 1.0}},
        "experiments": {
            "noisy": {
                "title": "Noisy",
                "system": "lorenz96",
                "parameters": {"dt": 0.05, "dimension": 12, "forcing": 8.0},
                "observations": ["all"],
                "gaps": [2],
                "members": 10,
                "cycles": 4,
            }
        },
    }
    make_study(config, root=ROOT)
    said = fault_of(config | {"tuning": {"trials": 2, "cycles": 4}})
    assert "search: passes = 4: this system's model has noise" in said


def test_experiment_may_run_on_some_of_the_test_seeds(config: dict[str, Any]) -> None:
    config["experiments"]["lorenz96_gap"]["seeds"] = [1]
    del config["experiments"]["kolmogorov"]["seeds"], config["figures"]["figure5"]
    study = make_study(config, root=ROOT)
    seeds = {
        name: {c.settings.seed for c in study.cells.values() if name in c.experiments}
        for name in config["experiments"]
    }
    assert seeds == {
        name: {1} if name == "lorenz96_gap" else {0, 1} for name in config["experiments"]
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{label: EnKF, parameters: {inflation: 0.9}}",
            ["filter 'enkf': inflation = 0.9", "greater than or equal to 1"],
        ),
        (
            "{label: EnKF, parameters: {inflatoin: 1.1}}",
            ["inflatoin: unknown key", "did you mean 'inflation'?"],
        ),
        (
            "{label: EnKF, search: {inflatoin: [1.1]}}",
            ["search = 'inflatoin'", "did you mean 'inflation'?"],
        ),
        (
            "{label: EnKF, search: {inflation: [1.1, 0.9]}}",
            ["'enkf': search: inflation = 0.9", "greater than or equal to 1"],
        ),
        (
            "{label: EnKF, search: {inflation: {low: 1, high: 4}}}",
            ["'enkf': search: inflation = 4", "less than or equal to 3"],
        ),
        (
            "{label: EnKF, search: {inflation: {low: 2, high: 1}}}",
            ["search.inflation", "low 2 must be less than high 1"],
        ),
        (
            "{label: EnKF, search: {inflation: {low: 1, hihg: 2}}}",
            ["search.inflation", "hihg", "missing"],
        ),
        (
            "{label: EnKF, search: {inflation: [1.1, 1.1]}}",
            ["search.inflation", "names 1.1 twice: name it once"],
        ),
        ("{label: EnKF, search: {inflation: []}}", ["search.inflation", "at least 1 item"]),
        (
            "{label: EnKF, settings: [{when: {gap: 7}, search: {inflatoin: null}}]}",
            ["settings.0.search = 'inflatoin'"],
        ),
        (
            "{label: EnKF, settings: [{when: {gap: 7}}]}",
            ["settings.0", "needs parameters or search"],
        ),
        (
            "{label: EnKF, settings: [{when: {sytem: lorenz63}, parameters: {inflation: 1.1}}]}",
            ["settings.0.when = 'sytem'", "did you mean 'system'?", "gap"],
        ),
        (
            "{label: EnKF, settings: [{when: {gap: 7}, parameters: {inflatoin: 1.1}}]}",
            ["settings.0.parameters = 'inflatoin'", "did you mean 'inflation'?"],
        ),
        ("{label: MASF}", ["filter 'enkf': label = 'MASF'", "filter 'masf'", "its own"]),
        (
            "{filter: enkff, label: EnKF}",
            ["filter 'enkf': filter = 'enkff'", "did you mean 'enkf'?"],
        ),
        (
            "{filter: enkf, command: run, label: EnKF}",
            ["filter 'enkf' and command 'run'", "one or the other"],
        ),
        (
            '{command: "run \'it", label: EnKF}',
            ["command", "run 'it", "cannot be read as a shell does"],
        ),
        ("{command: ' ', label: EnKF}", ["command is empty"]),
        ("{install: make it, label: EnKF}", ["install 'make it' is for filters with a command"]),
        (
            "{command: run, label: EnKF, settings: [{when: {gpa: 7}, parameters: {x: 1}}]}",
            ["settings.0.when = 'gpa'", "did you mean 'gap'?"],
        ),
        (
            "{lable: EnKF}",
            [
                "enkf.yaml: lable: unknown key",
                "did you mean 'label'?",
                "enkf.yaml: label: this key is missing",
            ],
        ),
        (
            "{label: EnKF, resources: {threads: 0}}",
            ["enkf.yaml: resources.threads = 0", "greater than or equal to 1"],
        ),
        ("[1, 2]", ["enkf.yaml", "expected a mapping", "found list"]),
    ],
)
def test_filter_file_is_refused(
    text: str, words: list[str], config: dict[str, Any], filters_folder: Path
) -> None:
    (filters_folder / "enkf.yaml").write_text(text, encoding="utf-8")
    message = fault_of(config)
    for word in words:
        assert word in message


def test_reserved_name_is_refused(config: dict[str, Any], filters_folder: Path) -> None:
    (filters_folder / "truth.yaml").write_text("{filter: enkf, label: Truth}", encoding="utf-8")
    config["filters"].append("truth")
    assert "filters = 'truth': the name is reserved" in fault_of(config)


def test_all_faults_are_named_at_once(config: dict[str, Any]) -> None:
    config["experiments"]["lorenz63"].update(cycles=0, gaps=[0])
    config["seeds"].update(training=-1)
    message = fault_of(config)
    assert len(message.splitlines()) == 3
    for key in (
        "experiments.lorenz63.cycles = 0",
        "experiments.lorenz63.gaps.0 = 0",
        "seeds.training = -1",
    ):
        assert key in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["there is no such file", "config/config.yaml"]),
        ("just words", ["expected a mapping", "found str"]),
        ("", ["expected a mapping", "found NoneType"]),
        ("a: [1,", ["cannot be read as YAML", "line 1"]),
        (b"\xff\xfe\x00", ["cannot be read as YAML"]),
    ],
)
def test_unreadable_config_file_is_named(
    content: str | bytes | None, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigFault) as caught:
        load_study(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [1]\na: 2\n", "key 'a' stands twice, in lines 1 and 3: keep one"),
        ("a: {b: 1, b: 2}\n", "key 'a.b' stands twice, in line 1: keep one"),
        ("a:\n- b: 1\n- b: 1\n  b: 2\n", "key 'a.1.b' stands twice, in lines 3 and 4: keep one"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n  d: 2\n", "key 'c.d' stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "key 'a.b' stands twice, in line 1: keep one"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    for read_it in (load_study, read_tuned_values, read_published_setting, require_keys_once_in):
        with pytest.raises(ConfigFault) as caught:
            read_it(path)
        assert str(caught.value).startswith(f"{path}: {said}")


def test_a_key_that_stands_twice_is_refused_in_a_filter_s_file_and_in_json(
    config: dict[str, Any], filters_folder: Path, tmp_path: Path
) -> None:
    file = filters_folder / "enkf.yaml"
    file.write_text("label: EnKF\nlabel: Other\n", encoding="utf-8")
    said = f"{file}: key 'label' stands twice, in lines 1 and 2: keep one"
    assert said in fault_of(config).splitlines()
    path = tmp_path / "study.json"
    path.write_text('{"config": {"filters": [], "filters": []}}', encoding="utf-8")
    with pytest.raises(ConfigFault, match=r"study\.json: key 'filters' stands twice: keep one"):
        load_study(path)


def test_aliases_and_merged_keys_of_yaml_stand_once() -> None:
    text = "c: {d: {e: &x {b: 1}}}\nf: {<<: *x, b: 2}\ng: *x\nh: &y [*y]\n"
    found = read_yaml(text)
    assert found["f"] == {"b": 2}
    assert found["g"] == found["c"]["d"]["e"] == {"b": 1}
    require_keys_once(text)
    require_keys_once("no: [YAML")  # which whoever reads it says
    assert read_yaml("") is None


def test_what_another_study_left_in_the_results_is_named(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    assert list(earlier_doubts(study)) == []
    (tmp_path / "study.json").write_text(study.to_json(), encoding="utf-8")
    for name in study.tables:
        place(tmp_path / paths.table(name, "csv"))
    for name in study.figures:
        place(tmp_path / paths.figure(name, "pdf"))
    assert list(earlier_doubts(study)) == []
    # The study of one experiment, with other figures, after it.
    content = json.loads(study.to_json())
    del content["config"]["experiments"]["gap_sweep"]
    content["config"]["figures"] = {}
    said = f"results = '{tmp_path}': "
    assert list(earlier_doubts(study_in(content))) == [
        f"{said}has results of a study with other experiments (gap_sweep), whose study.json and "
        "scores are replaced: name another folder to keep them",
        f"{said}tables gap_sweep, gap_sweep_cost, gap_sweep_paired are not of this study, and stay "
        "beside its own: move them away",
        f"{said}figures {', '.join(sorted(study.figures))} are not of this study, and stay beside "
        "its own: move them away",
    ]
    (tmp_path / "study.json").write_text("damaged", encoding="utf-8")
    assert len(list(earlier_doubts(study_in(content)))) == 2


def place(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()
