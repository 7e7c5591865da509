"""Paths below the results: patterns and the paths that a study makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from masf.study import paths
from masf.study.load import load_study
from masf.study.study import Study

ROOT = Path(__file__).parent.parent
PATTERNS = [
    getattr(paths, name)
    for name in ("PRIOR", "TRUTH", "ESTIMATE", "COST", "TUNED", "JOURNAL", "OBSERVATION")
]


@pytest.fixture(scope="module", params=["quick", "tuning"])
def study(request: pytest.FixtureRequest) -> Study:
    return load_study(ROOT / "config" / f"{request.param}.yaml", ROOT)


def wildcards(pattern: str, path: str) -> dict[str, str]:
    """What the names in a pattern stand for in a path, read as Snakemake reads it."""
    known = paths.WILDCARDS | {"filter": "[a-z0-9_]+"}
    parts = re.split(r"{(\w+)}", pattern)
    names: list[str] = []
    expression = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            expression += re.escape(part)
        elif part in names:
            expression += f"(?P={part})"
        else:
            names.append(part)
            expression += f"(?P<{part}>{known[part]})"
    found = re.fullmatch(expression, path)
    assert found is not None, f"{path} does not fit {pattern}"
    return found.groupdict()


def test_snakemake_reads_from_each_path_the_cell_that_it_is_of(study: Study) -> None:
    assert len(study.all_cells) > 10
    for cell in study.all_cells.values():
        expected = {key: str(value) for key, value in cell.wildcards.items()}
        of_point = {key: value for key, value in expected.items() if key != "seed"}
        assert wildcards(paths.CELL, cell.path) == expected
        assert wildcards(paths.POINT, cell.point) == of_point
        assert wildcards(paths.TRUTH, cell.truth) == expected
        for name in cell.filters:
            assert wildcards(paths.ESTIMATE, cell.estimate(name)) == {**expected, "filter": name}
            assert wildcards(paths.COST, cell.cost(name)) == {**expected, "filter": name}
            assert wildcards(paths.TUNED, cell.tuned(name)) == {**of_point, "filter": name}


def test_a_prior_s_path_names_the_ring_that_it_is_trained_on(study: Study) -> None:
    for path, prior in study.priors.items():
        found = wildcards(paths.PRIOR, path)
        assert found["parameters"] == paths.path_fragment(prior.parameters)


def test_all_paths_of_a_study_are_different(study: Study) -> None:
    cells = study.all_cells.values()
    made = [cell.truth for cell in cells]
    made += [
        path
        for cell in cells
        for name in cell.filters
        for path in (cell.estimate(name), cell.cost(name))
    ]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_glob_finds_what_a_pattern_names(pattern: str, study: Study, tmp_path: Path) -> None:
    (cell, *_) = study.cells.values()
    path = tmp_path / pattern.format_map({**cell.wildcards, "filter": "enkf"})
    for place in (path, tmp_path / "other" / path.name):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert list(tmp_path.glob(paths.glob(pattern))) == [path]


def test_jobs_of_one_rule_have_logs_of_their_own() -> None:
    assert len({paths.log(rule) for rule in paths.JOBS}) == len(paths.JOBS)
    assert paths.log("assimilate") == f"logs/{paths.ESTIMATE.removesuffix('.nc')}.log"
    assert paths.benchmark("plot") == "benchmarks/figures/{figure}.tsv"


def test_parameters_in_a_path_keep_twelve_digits() -> None:
    assert paths.path_fragment({"dimension": 40, "dt": 0.01}) == "dimension~40+dt~0.01"
    assert paths.path_fragment({"forcing": 8.123456789012}) == "forcing~8.12345678901"
