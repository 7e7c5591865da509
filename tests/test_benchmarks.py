"""The benchmark scripts still fit the package: they are run by hand only, and would break in silence."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from masf.study import make_study, read_yaml

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ELSEWHERE = {"dapper_reference"}
"""Scripts for another environment, which import what is not installed here."""


@pytest.mark.parametrize("name", ["figure4", "gap_sweep"])
def test_studies_of_figure_4_measure_and_train_as_the_whole_study(name: str) -> None:
    part, whole = (read_yaml(BENCHMARKS.parent / path) for path in (f"benchmarks/{name}.yaml", "config/config.yaml"))
    make_study(part, root=BENCHMARKS.parent)
    for key in ("seeds", "observations", "priors"):
        assert part[key].items() <= whole[key].items()
    for title, experiment in part["experiments"].items():
        of_whole = {key: value for key, value in whole["experiments"][title].items() if key != "leave_out_filters"}
        assert experiment | {"observations": None} == of_whole | {"observations": None}
        assert set(experiment["observations"]) <= set(of_whole["observations"])
    if name == "figure4":
        assert part["figures"]["figure4"] == whole["figures"]["figure4"]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return importlib.import_module


@pytest.mark.parametrize("name", sorted({path.stem for path in BENCHMARKS.glob("*.py")} - ELSEWHERE))
def test_scripts_find_what_they_import(name, scripts):
    scripts(name)


def test_a_match_is_a_row_for_each_rival_that_is_installed(scripts, tmp_path, capfd, monkeypatch):
    bench = scripts("bench")
    (match,) = [m for m in bench.matches(tmp_path) if (m.name, m.dimension) == ("letkf", 40)]
    monkeypatch.setitem(bench.PYTHONS, "dapper", tmp_path / "python")
    assert bench.play(match, 1, 1) == []
    assert "letkf: dapper is not installed (make dapper); left out" in capfd.readouterr().err
    ours = bench.Contestant("another", "masf", "etkf")
    (row,) = bench.play(bench.Match("letkf", 40, match.ours, (ours,)), 2, 1)
    assert (row["rival"], row["rounds"]) == ("another", 2)
    assert row["ratio_median"] > 0


def test_ratios_are_the_rivals_seconds_over_ours(scripts):
    row = scripts("bench").row("task", "case", "rival", np.array([1.0, 2.0]), np.array([3.0, 6.0]), np.ones(2), np.full(2, 5.0))
    assert (row["ratio_quarter"], row["ratio_median"], row["cpu_ratio_median"]) == (3.0, 3.0, 5.0)
