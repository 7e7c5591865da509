"""The page of a study: what its headline says; and in a real browser, that it sorts, filters and
fits a narrow screen.

The tests in a browser need Chromium and its driver, or leave to install them (tests/debian.py);
elsewhere they are skipped.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import console, resize
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait
from synthetic import LOST_ERROR, long_study, small_study, write_results

from masf.report.headline import sentences, verdicts
from masf.report.page import score_rows
from masf.report.tables import write_tables
from masf.scores.comparison import COMPARED
from masf.scores.run import FLOW_SCORES
from masf.stages.aggregate import gather
from masf.stages.page import write_page
from masf.stages.plot import draw
from masf.study.study import Study

PATIENCE = 30


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of three filters, of which one diverges now and then."""
    folder = tmp_path_factory.mktemp("page")
    study = small_study(folder)
    write_results(
        study, diverged={("free_run", 2, 1): 2, ("free_run", 3, 0): 1, ("free_run", 3, 1): 0}
    )
    scores, costs = gather(study)
    files = {
        "scores_path": folder / "scores.parquet",
        "costs_path": folder / "costs.parquet",
        "folder": folder / "tables",
    }
    write_tables(study, scores, costs, **files)
    for name in study.config.figures:
        draw(study, name, folder / "scores.parquet", [folder / "figures" / f"{name}.png"])
    page = folder / "index.html"
    write_page(
        study,
        folder / "scores.parquet",
        folder / "costs.parquet",
        folder / "figures",
        folder / "tables",
        page,
    )
    return page


# What the headline says


def scores_of(study: Study, rmse: dict[str, list[float]]) -> pd.DataFrame:
    """Scores of one situation: the RMSE of each filter on each seed; NaN where it diverged."""
    cells = [cell for cell in study.cells.values() if "one_gap" in cell.experiments]
    return pd.DataFrame(
        [
            {
                "cell": cell.path,
                "system": "lorenz63",
                "observation": "every_one",
                "gap": 2,
                "members": 4,
                "seed": cell.settings.seed,
                "filter": name,
                "diverged": np.isnan(values[i]),
                "lost": values[i] == LOST_ERROR,
                **dict.fromkeys(("rmse", "rmse_analysis", "crps"), values[i]),
            }
            for name, values in rmse.items()
            for i, cell in enumerate(cells)
        ]
    )


def said(tmp_path: Path, rmse: dict[str, list[float]], **changes: Any) -> list[str]:
    seeds = range(len(next(iter(rmse.values()))))
    study = small_study(tmp_path, seeds={"test": list(seeds)})
    experiment = study.config.experiments["one_gap"].model_dump(exclude_defaults=True) | changes
    study = small_study(
        tmp_path, seeds={"test": list(seeds)}, experiments={"one_gap": experiment}, figures={}
    )
    return sentences(study, scores_of(study, rmse))


NAN = float("nan")


def test_headline_names_a_winner_by_how_much_and_who_diverged(tmp_path: Path) -> None:
    rmse = {
        "particle": [0.75, 0.76, 0.74, 0.75],
        "enkf": [1.0, 1.01, 0.99, 1.0],
        "free_run": [9.0, NAN, 9.0, 9.0],
    }
    assert said(tmp_path, rmse) == [
        "Ahead of every other filter beyond chance in 1 of 1 situation: Particle in 1 "
        "(lorenz63), 25% below the next.",
        "On lorenz63, lowest RMSE: Particle, 25% below the next.",
        "Diverged on some seed, in 1 situation: No assimilation in 1.",
    ]


def test_headline_says_what_is_not_distinguishable(tmp_path: Path) -> None:
    rmse = {
        "particle": [0.9, 1.1, 1.0, 1.0],
        "enkf": [1.2, 0.9, 1.0, 1.0],
        "free_run": [9.0, 9.0, 9.1, 9.0],
    }
    first, _, third = said(tmp_path, rmse)
    assert first == "In none of 1 situation is a filter ahead of every other one beyond chance."
    assert third.startswith("Not decided in 1 of 1")
    assert "paired over 4 seeds" in third
    assert third.endswith("Level there, and ahead of all others: EnKF and Particle in 1.")


def test_headline_leaves_the_reference_out_and_claims_nothing_from_one_seed(tmp_path: Path) -> None:
    rmse = {"particle": [0.1], "enkf": [1.0], "free_run": [2.0]}
    assert said(tmp_path, rmse, reference="particle") == [
        "On lorenz63, lowest RMSE: EnKF, 50% below the next.",
        "Too few seeds to judge whether filters differ in 1 of 1 situation: 1 seed, where 4 are "
        "needed.",
        "Not counted where they are the reference, exact or nearly so: Particle.",
    ]


def test_headline_of_a_study_in_which_everything_diverged(tmp_path: Path) -> None:
    rmse = {"particle": [1.0, NAN] * 2, "enkf": [NAN] * 4, "free_run": [NAN, 1.0] * 2}
    first, second, *_ = said(tmp_path, rmse)
    assert first == "In none of 1 situation is a filter ahead of every other one beyond chance."
    assert second == "On lorenz63, every filter diverged or lost track on some seed."


def test_headline_counts_lost_tracks_and_calls_no_such_filter_the_best(tmp_path: Path) -> None:
    rmse = {"particle": [0.1, 0.1, LOST_ERROR, 0.1], "enkf": [1.0] * 4, "free_run": [9.0] * 4}
    # Nor is a run without measurements that "next" a filter that lost track.
    assert said(tmp_path, rmse)[1:] == [
        "On lorenz63, lowest RMSE: EnKF, 89% below the next.",
        "Lost track on some seed, in 1 situation: Particle in 1.",
    ]
    rmse["enkf"] = [LOST_ERROR] * 4
    assert said(tmp_path, rmse)[1:] == [
        "On lorenz63, every filter diverged or lost track on some seed.",
        "Lost track on some seed, in 1 situation: Particle in 1, EnKF in 1.",
    ]


@pytest.mark.parametrize(("seeds", "judged"), [(2, False), (3, False), (4, True)])
def test_page_judges_nothing_below_four_seeds(seeds: int, judged: bool, tmp_path: Path) -> None:
    study = long_study(tmp_path, seeds, figures={})
    write_results(study)
    scores, costs = gather(study)
    scores.to_parquet(tmp_path / "scores.parquet")
    costs.to_parquet(tmp_path / "costs.parquet")
    page = tmp_path / "index.html"
    write_page(
        study, tmp_path / "scores.parquet", tmp_path / "costs.parquet", tmp_path, tmp_path, page
    )
    text = page.read_text(encoding="utf-8")
    winners = text[text.index('<h2 id="winners">') : text.index('<h2 id="figures">')]
    assert winners.count("too few seeds to judge") == (0 if judged else 3)
    # Errors differ from seed to seed more than from filter to filter.
    assert ("2 of 2: EnKF, No assimilation" in winners) == judged
    assert ("Too few seeds to judge" in text) != judged
    assert ("not distinguishable from at least one other filter" in text) == judged


def test_situations_that_experiments_share_count_once(study: Study) -> None:
    found = verdicts(study, gather(study)[0])
    assert [(v.experiment, v.situation, v.best) for v in found] == [
        ("gap_sweep", "gap 2", "EnKF"),
        ("gap_sweep", "gap 3", "EnKF"),
        ("one_gap", "", "Particle"),
    ]
    # Gap 2 is one situation, though gap_sweep leaves a filter out there that one_gap runs.
    said = sentences(study, gather(study)[0])
    assert "On lorenz63, lowest RMSE in 2 situations: Particle in 1, EnKF in 1" in said[0]
    assert not any("3 situations" in sentence for sentence in said)
    twice = small_study(
        Path(study.config.results),
        figures={},
        experiments={
            name: study.config.experiments["gap_sweep"].model_dump(exclude_defaults=True)
            for name in ("gap_sweep", "again")
        },
    )
    assert any("in 2 situations" in sentence for sentence in sentences(twice, gather(study)[0]))


def test_filters_of_a_shared_situation_meet_on_the_seeds_that_all_ran(tmp_path: Path) -> None:
    one_gap = small_study(tmp_path).config.experiments["one_gap"].model_dump(exclude_defaults=True)
    few = {**one_gap, "leave_out_filters": ["particle"]}

    def headline(seeds: list[int], others: list[int]) -> list[str]:
        study = small_study(
            tmp_path,
            seeds={"test": [0, 1, 2]},
            experiments={
                "few": {**few, "seeds": others},
                "one_gap": {**one_gap, "leave_out_filters": ["enkf"], "seeds": seeds},
            },
            figures={},
        )
        # Only on seed 0 is the particle filter better.
        rmse = {"particle": [0.5, 9.0, 9.0], "enkf": [1.0, 1.0, 1.0], "free_run": [9.0, 9.0, 9.0]}
        rows = pd.DataFrame(
            [
                {
                    "cell": cell.path, "seed": cell.settings.seed, "filter": name,
                    "diverged": False, "lost": False,
                    **dict.fromkeys(COMPARED, rmse[name][cell.settings.seed]),
                }
                for cell in study.cells.values()
                for name in cell.filters
            ]
        )  # fmt: skip
        return sentences(study, rows)

    assert "On lorenz63, lowest RMSE: Particle, 50% below the next." in headline([0], [0, 1, 2])
    # Nothing can be said of filters that have no seed in common.
    assert any("lowest RMSE in 2 situations" in said for said in headline([0], [1, 2]))


def test_page_refers_to_files_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r'(?:href|src)="([^"#:]+)"', text):
        assert (page.parent / target).exists() or target.endswith((".pdf", "study.json")), target


def test_table_of_scores_has_those_of_vorticity_where_there_is_a_flow(
    study: Study, flows: Study
) -> None:
    table, plain = (score_rows(s, *gather(s)) for s in (flows, study))
    assert table["SSIM of vorticity"].tolist() == pytest.approx([1.0] * 4)
    assert table["CSI of vorticity"].tolist() == pytest.approx([1.0] * 4)
    assert set(FLOW_SCORES.values()).isdisjoint(plain)
    assert set(table["parameters"]) == {""}


# In a browser


@pytest.fixture
def opened(browser: WebDriver, page: Path) -> WebDriver:
    """The page, just loaded."""
    resize(browser, 1280)
    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#scores.dataTable") and rows(b)
    )
    return browser


def rows(browser: WebDriver) -> list[list[str]]:
    """The table of scores as it is shown."""
    script = (
        "return [...document.querySelectorAll('#scores tbody tr')].map(r => [...r.cells].map(c "
        "=> c.innerText.trim()))"
    )
    return browser.execute_script(script)


def errors(browser: WebDriver) -> list[dict[str, Any]]:
    return [entry for entry in console(browser) if entry["level"] == "SEVERE"]


def test_page_loads_without_errors_or_network_and_shows_its_figures(opened: WebDriver) -> None:
    assert errors(opened) == []
    script = (
        "return performance.getEntriesByType('resource').map(r => r.name).filter(n => "
        "!/^(file|blob|data):/.test(n))"
    )
    assert opened.execute_script(script) == []
    widths = opened.execute_script(
        "return [...document.images].map(i => [i.naturalWidth, i.alt.length])"
    )
    assert len(widths) == 3
    assert all(width > 500 and alt > 20 for width, alt in widths)
    assert len(opened.find_elements(By.TAG_NAME, "h1")) == 1


def test_click_on_a_column_sorts(opened: WebDriver) -> None:
    heads = [
        head.text.strip() for head in opened.find_elements(By.CSS_SELECTOR, "#scores thead th")
    ]
    column = heads.index("RMSE")
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center'})", opened.find_element(By.ID, "scores")
    )
    for sign, order in ((1, "ascending"), (-1, "descending")):
        head = opened.find_elements(By.CSS_SELECTOR, "#scores thead th")[column]
        head.click()
        # The table is sorted after the click has returned.
        WebDriverWait(opened, PATIENCE).until(
            lambda _, head=head, order=order: head.get_attribute("aria-sort") == order
        )
        shown = [row[column] for row in rows(opened)]
        values = [float(text.replace("–", "inf")) for text in shown]
        assert len(set(values)) > 3
        assert values.count(np.inf) == 1
        assert values == sorted(values, key=lambda value: sign * value)
    assert errors(opened) == []


def test_typing_filters_and_so_does_the_list_of_a_column(opened: WebDriver) -> None:
    everything = rows(opened)
    field = opened.find_element(By.CSS_SELECTOR, ".dt-search input")
    field.send_keys("EnKF")
    WebDriverWait(opened, PATIENCE).until(lambda browser: len(rows(browser)) < len(everything))
    assert {row[0] for row in rows(opened)} == {"EnKF"}
    field.clear()
    field.send_keys(" \b")
    WebDriverWait(opened, PATIENCE).until(lambda browser: len(rows(browser)) == len(everything))
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center'})", opened.find_element(By.ID, "scores")
    )
    opened.find_element(By.CSS_SELECTOR, "#scores thead th:first-child .dtcc-button").click()
    (choice,) = [
        b
        for b in opened.find_elements(By.CSS_SELECTOR, ".dtcc-list button")
        if b.text.strip() == "No assimilation"
    ]
    choice.click()
    WebDriverWait(opened, PATIENCE).until(
        lambda browser: {row[0] for row in rows(browser)} == {"No assimilation"}
    )
    assert errors(opened) == []


def test_figures_fill_the_page_and_no_column_is_cut_on_a_usual_screen(opened: WebDriver) -> None:
    resize(opened, 1280)
    widths = opened.execute_script(
        "const of = s => document.querySelector(s); const t = of('#scores');"
        "return [of('figure img').clientWidth, of('main').clientWidth,"
        " t.offsetWidth, t.parentElement.clientWidth]"
    )
    assert widths[0] == widths[1]
    assert widths[2] <= widths[3]


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_page_is_no_wider_than_the_screen(width: int, opened: WebDriver) -> None:
    resize(opened, width)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    text = opened.find_element(By.CSS_SELECTOR, ".headline").rect
    assert 0 <= text["x"] < text["x"] + text["width"] <= width
