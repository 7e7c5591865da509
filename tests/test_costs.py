"""Requests and expectations of jobs: they grow with the cell and the attempt, and are right where
something was measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masf.filters.registry import filter_names
from masf.study.cells import Cell
from masf.study.costs import (
    START_SECONDS,
    Measured,
    Request,
    Run,
    Size,
    assimilate_request,
    assimilate_seconds,
    interpolated,
    share_of_group,
    simulate_request,
    train_prior_request,
    tune_request,
)
from masf.study.load import make_study
from masf.study.messages import ConfigFault
from masf.study.plan import expected, planned, report, with_gpu
from masf.study.study import Study

ROOT = Path(__file__).parent.parent
FILTERS = ["masf", "enkf", "etkf", "free_run"]


def study_of(**experiment: Any) -> Study:
    """Lorenz-96 with one cell, changed by ``experiment``."""
    dimension, tuning = experiment.pop("dimension", 40), experiment.pop("tuning", None)
    return make_study(
        {
            "results": "results",
            "seeds": {"test": [0], "tuning": [100, 101]},
            "filters": FILTERS,
            "tuning": tuning,
            "observations": {"all": {"operator": "identity", "noise": 1.0}},
            "priors": {"lorenz96": {"gaps": [20]}},
            "experiments": {
                "one": {
                    "title": "One",
                    "system": "lorenz96",
                    "observations": ["all"],
                    "gaps": [20],
                    "members": 100,
                    "cycles": 100,
                    "parameters": {"dt": 0.01, "forcing": 8, "dimension": dimension},
                    **experiment,
                }
            },
        },
        root=ROOT,
    )


def cell_of(study: Study) -> Cell:
    (cell,) = study.cells.values()
    return cell


def measured(*runs: tuple[str, int, float, float]) -> Measured:
    """Runs by filter, dimension, seconds a cycle at gap 20 and N 100, and MiB."""
    return Measured(
        [
            Run(name, "cpu", Size("lorenz96", d, 100, 20, 1), seconds, mib)
            for name, d, seconds, mib in runs
        ]
    )


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("larger", [{"dimension": 50_000, "cycles": 5000}, {"members": 2_000_000}])
def test_requests_of_filters_grow_with_the_cell(name: str, larger: dict[str, int]) -> None:
    small, large = study_of(), study_of(**larger)
    before, after = (
        assimilate_request(small, name, cell_of(small)),
        assimilate_request(large, name, cell_of(large)),
    )
    assert before.mem_mb >= small.filters[name].resources.mem_mb
    assert before.runtime >= small.filters[name].resources.runtime
    assert after.mem_mb > before.mem_mb
    # Of a filter that nothing is known of, the time grows in proportion; of others, once it is more
    # than what their file says.
    known = Measured.read().knows(name)
    growth = 100 * 50_000 if "dimension" in larger else 40 * 2_000_000
    assert (
        (after.runtime > before.runtime)
        if known
        else after.runtime == before.runtime * growth / (40 * 100)
    )


def test_requests_of_truths_grow_with_the_cell() -> None:
    small, large = (
        simulate_request(cell_of(study_of())),
        simulate_request(cell_of(study_of(dimension=20_000, cycles=1000))),
    )
    assert large.mem_mb > 2 * small.mem_mb
    assert large.runtime > small.runtime


def test_a_long_ring_asks_for_the_prior_of_a_short_one_and_more_worlds_ask_for_more() -> None:
    small, large = study_of(), study_of(dimension=20_000)
    prior = small.prior(cell_of(small))
    request = train_prior_request(prior)
    assert train_prior_request(large.prior(cell_of(large))) == request  # they share the training
    twice = train_prior_request(
        replace(prior, settings=prior.settings.model_copy(update={"worlds": 640}))
    )
    assert twice.mem_mb > request.mem_mb
    assert twice.runtime > request.runtime


def test_tuning_asks_for_its_runs_memory_and_the_config_s_time() -> None:
    points = {"cycles": 100, "points": [{"experiment": "one"}], "trials": 5, "runtime": 90}
    small, large = study_of(tuning=points), study_of(tuning=points, dimension=50_000)
    for study in (small, large):
        ((_, cells),) = study.points.items()
        asked = tune_request(study, "enkf", cells)
        assert asked.mem_mb > assimilate_request(study, "enkf", cell_of(study)).mem_mb
        assert asked.runtime == 90
    assert (
        tune_request(large, "enkf", *large.points.values()).mem_mb
        > 2 * small.filters["enkf"].resources.mem_mb
    )


def test_each_attempt_asks_for_twice_as_much() -> None:
    assert [Request(700, 10).attempt(n) for n in (1, 2, 3)] == [
        Request(700, 10),
        Request(1400, 20),
        Request(2800, 40),
    ]


def test_no_attempt_asks_for_more_than_the_limit() -> None:
    assert [Request(700, 10).attempt(n, longest=25).runtime for n in (1, 2, 3)] == [10, 20, 25]
    assert Request(700, 10).attempt(2, longest=5) == Request(1400, 5)


@pytest.mark.parametrize(("longest", "share"), [(1440, 53), (120, 4), (15, 1)])
def test_jobs_of_a_group_share_its_limit(longest: int, share: int) -> None:
    # 8 truths and 96 estimates, four at a time: 2 and 24 of them follow one another.
    assert share_of_group(longest, jobs=8 * 13, side_by_side=4, stages=2) == share
    assert share == 1 or share * (2 + 24) <= longest


def test_interpolation_is_a_power_law_between_and_beyond_points() -> None:
    points = [(10.0, 2.0), (1000.0, 20.0), (100.0, 2.0), (1000.0, 20.0)]
    assert interpolated(points, 1.0) == 2.0
    assert interpolated(points, 10**1.5) == pytest.approx(2.0)
    assert interpolated(points, 10**2.5) == pytest.approx(2 * 10**0.5)
    assert interpolated(points, 10**4) == pytest.approx(200.0)
    assert interpolated([(10.0, 2.0)], 30.0) == pytest.approx(6.0)
    assert interpolated([], 30.0) == 0.0


def test_measured_cell_is_expected_to_take_what_it_took_and_gaps_cost_their_steps() -> None:
    known = measured(
        ("enkf", 40, 0.3, 200.0),
        ("enkf", 1000, 5.0, 500.0),
        ("free_run", 40, 0.2, 150.0),
        ("free_run", 1000, 2.0, 200.0),
    )
    study = study_of()
    assert assimilate_seconds(study, "enkf", cell_of(study), known) == pytest.approx(
        START_SECONDS + 100 * 0.3
    )
    longer = study_of(gaps=[40])
    assert assimilate_seconds(longer, "enkf", cell_of(longer), known) == pytest.approx(
        START_SECONDS + 100 * (0.3 + 0.2)
    )
    assert assimilate_seconds(study, "etkf", cell_of(study), known) is None


def test_every_filter_has_shipped_measurements() -> None:
    shipped = Measured.read()
    assert {run.filter for run in shipped.runs} == set(filter_names())
    assert all(run.seconds_per_cycle > 0 and run.peak_memory_mib > 50 for run in shipped.runs)


CELL = "results/lorenz96/dimension~40+dt~0.01+forcing~8/all/gap~20/members~100/seed~0"


def summary(*rows: tuple[str, str], plan: str = "update pending") -> list[dict[str, str]]:
    """Rows of Snakemake's summary, of outputs and rules."""
    return [{"output_file": output, "rule": rule, "plan": plan} for output, rule in rows]


def test_plan_adds_up_the_jobs_that_are_left() -> None:
    known = measured(("enkf", 40, 36.0, 200.0), ("free_run", 40, 0.2, 150.0))
    study = with_gpu(study_of(), True)
    rows = summary(
        ("results/study.json", "study"),
        (f"{CELL}/truth.nc", "simulate"),
        (f"{CELL}/enkf.nc", "assimilate_enkf"),
        (f"{CELL}/enkf.cost.json", "assimilate_enkf"),
        (f"{CELL}/masf.nc", "assimilate_masf"),
    )
    done = summary((f"{CELL}/letkf.nc", "assimilate_letkf"), plan="no update")
    costs = {cost.job.rule: cost for cost in expected(study, planned(study, rows + done), known)}
    assert list(costs) == ["study", "simulate", "assimilate_masf", "assimilate_enkf"]
    assert costs["assimilate_enkf"].cpu_hours == pytest.approx((START_SECONDS + 100 * 36) / 3600)
    # What was never measured counts with what it asks for.
    masf = costs["assimilate_masf"]
    assert not masf.measured
    assert masf.gpu_hours == pytest.approx(masf.job.runtime / 60)
    assert masf.job.runtime == study.filters["masf"].resources.runtime
    text = report(list(costs.values()), known)
    assert "Not measured, and counted with all the time that they ask for: assimilate_masf." in text
    assert "no run was measured on a GPU" in text
    total = next(line for line in text.splitlines() if line.startswith("total")).split()
    assert total[1] == "4"


def test_nothing_is_left_of_a_study_that_is_done() -> None:
    rows = summary((f"{CELL}/enkf.nc", "assimilate_enkf"), plan="no update")
    study = study_of()
    assert (
        report(expected(study, planned(study, rows), measured()), measured())
        == "Nothing to be done."
    )


def test_table_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("filter,seconds\nenkf,1\n", encoding="utf-8")
    with pytest.raises(
        ConfigFault, match=r"costs\.csv: cannot be read as a table of measured costs"
    ):
        Measured.read(path)
