"""config/settings: settings of the literature, and their published scores."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from masf.files.cell import build
from masf.study.defaults import filter_in_cell, published_setting, setting_names
from masf.study.published import PublishedRun, PublishedSetting

ASKED = {
    "sakov2008", "hoteit2015", "sakov2012", "mandel2016_gap5", "spantini2022", "mnmef2025",
    "todter2015", "anderson2010", "ensf2024",
}  # fmt: skip


def test_settings_of_the_literature_are_there() -> None:
    assert set(setting_names()) >= ASKED


@pytest.mark.parametrize("name", setting_names())
def test_a_setting_builds_and_its_filters_take_their_parameters(name: str) -> None:
    setting = published_setting(name)
    assert any(run.published is not None for run in setting.runs)
    system, observation = build(setting.cell(members=4, seed=0))
    assert observation.settings["operator"] == setting.observation.operator
    assert system.dimension >= observation.size > 0
    seen = set()
    for run in setting.runs:
        key = (run.name, run.members, repr(sorted(run.parameters.items())))
        assert key not in seen
        seen.add(key)
        if run.filter is not None:
            cell = setting.cell(members=run.members, seed=0)
            found = filter_in_cell(run.filter, cell, run.parameters, has_prior=True)
            assert found.parameters.items() >= run.parameters.items()


def test_small_ensembles_of_a_setting_share_the_truth_of_large_ones() -> None:
    setting = published_setting("sakov2012")
    small, large = (setting.cell(members=n, seed=3, cycles=5) for n in (3, 100))
    assert (small.cycles, small.gap, small.seed) == (5, 25, 3)
    assert small.to_json().replace('"members": 3', '"members": 100') == large.to_json()


def test_a_run_without_a_filter_here_needs_a_name_and_a_score() -> None:
    with pytest.raises(ValidationError, match="without filter it needs label and published"):
        PublishedRun(label="DEnKF", members=40)
    with pytest.raises(ValidationError, match="name it by filter"):
        PublishedRun(label="DEnKF", members=40, published=0.2, parameters={"inflation": 1.1})


def test_a_setting_has_cycles_to_score() -> None:
    content = published_setting("sakov2008").model_dump() | {"spin_up_cycles": 2400}
    with pytest.raises(ValidationError, match="leaves none of 2400 cycles"):
        PublishedSetting.model_validate(content)


def test_the_sources_of_a_setting_are_said_and_what_is_chosen() -> None:
    for name in setting_names():
        setting = published_setting(name)
        assert "Scores" in setting.source or "scores" in setting.source, name
        assert "cycles" in setting.chosen, name
