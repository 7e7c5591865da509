"""Paired comparison of filters, against scipy and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from masf.scores.comparison import (
    BEST,
    COMPARED,
    CONFIDENCE,
    DIVERGED,
    INDISTINGUISHABLE,
    LOST,
    NO_BEST,
    TOO_FEW,
    WORSE,
    compare,
    paired_interval,
)

SEEDS = np.array([1.0, 2.0, 4.0, 3.0])
"""What all filters have in common on four seeds: far more than what they differ by."""


def rows_of(lost: str = "", **scores: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """Rows of one point; a filter diverged where its score is NaN; those named in ``lost`` lost
    track on the first seed.
    """
    rows = [
        {
            "filter": name,
            "seed": seed,
            "diverged": bool(np.isnan(value)),
            "lost": name in lost and seed == 0,
            **dict.fromkeys(COMPARED, value),
        }
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(
        filter=lambda t: pd.Categorical(t["filter"], list(scores), ordered=True)
    )


def verdicts(rows: pd.DataFrame) -> dict[str, str]:
    found = compare(rows, [])
    assert found["score"].tolist() == [
        score for score in COMPARED for _ in rows["filter"].cat.categories
    ]
    return dict(zip(found["filter"], found["verdict"], strict=True))


@pytest.mark.parametrize("n", [2, 5, 30])
def test_interval_is_that_of_the_paired_t_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal(n), 0.3 + rng.standard_normal(n)
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(CONFIDENCE)
    np.testing.assert_allclose(paired_interval(a - b), [expected.low, expected.high], rtol=1e-10)


def test_what_is_common_to_a_seed_does_not_count():
    rows = rows_of(
        a=SEEDS,
        b=SEEDS + np.array([0.1, 0.11, 0.09, 0.1]),
        c=SEEDS + np.array([0.1, -0.1, 0.05, 0.0]),
    )
    assert verdicts(rows) == {"a": BEST, "b": WORSE, "c": INDISTINGUISHABLE}
    table = compare(rows, []).set_index(["score", "filter"]).loc["crps"]
    expected = scipy.stats.ttest_rel(
        rows.query("filter == 'b'")["crps"], rows.query("filter == 'a'")["crps"]
    )
    assert table.loc["b", "difference"] == pytest.approx(0.1)
    assert table.loc["b", "low"] == pytest.approx(expected.confidence_interval(CONFIDENCE).low)
    assert table.loc["b", "high"] == pytest.approx(expected.confidence_interval(CONFIDENCE).high)
    assert table["best"].tolist() == ["a"] * 3
    assert np.isnan(table.loc["a", "low"])


def test_order_of_rows_does_not_change_the_pairs():
    rows = rows_of(a=SEEDS, b=SEEDS + np.array([0.1, 0.11, 0.09, 0.1]))
    pd.testing.assert_frame_equal(compare(rows.iloc[::-1], []), compare(rows, []))


def test_filter_that_diverged_is_never_the_best_and_is_not_compared():
    table = (
        compare(rows_of(a=[0.1, 0.1, 0.1, np.nan], b=SEEDS), [])
        .set_index(["score", "filter"])
        .loc["rmse"]
    )
    assert table["verdict"].tolist() == [DIVERGED, BEST]
    assert table.loc["a", ["runs", "diverged"]].tolist() == [4, 1]
    assert table.loc["a", "mean"] == pytest.approx(0.1)
    assert np.isnan(table.loc["a", "difference"])


def test_no_filter_is_the_best_where_all_diverged():
    table = compare(rows_of(a=[np.nan, np.nan], b=[1.0, np.nan]), [])
    assert set(table["verdict"]) == {DIVERGED}
    assert set(table["best"]) == {""}


def test_filter_that_lost_track_is_never_the_best_and_its_lost_runs_are_not_in_its_mean():
    table = compare(rows_of(lost="a", a=[9.0, 0.1, 0.1, 0.1], b=SEEDS), [])
    table = table.set_index(["score", "filter"]).loc["rmse"]
    assert table["verdict"].tolist() == [LOST, BEST]
    assert table.loc["a", ["runs", "diverged", "lost"]].tolist() == [4, 0, 1]
    assert table.loc["a", "mean"] == pytest.approx(0.1)
    assert np.isnan(table.loc["a", "difference"])


def test_nothing_is_measured_against_a_run_without_measurements():
    rows = rows_of(lost="a", a=SEEDS, free=SEEDS + 5)
    table = compare(rows, [], never_best={"free"}).set_index(["score", "filter"]).loc["rmse"]
    assert table["verdict"].tolist() == [LOST, NO_BEST]
    assert table["best"].tolist() == ["", ""]
    assert table.loc["free", "mean"] == pytest.approx(SEEDS.mean() + 5)
    table = compare(rows_of(a=SEEDS, free=SEEDS - 0.5), [], never_best={"free"})
    assert table["best"].tolist() == ["a"] * 2 * len(COMPARED)


def test_one_seed_has_no_interval():
    table = compare(rows_of(a=[1.0], b=[2.0]), [])
    assert table["verdict"].tolist() == [BEST, TOO_FEW] * len(COMPARED)
    assert table[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(("seeds", "verdict"), [(2, TOO_FEW), (3, TOO_FEW), (4, WORSE)])
def test_few_seeds_are_not_judged(seeds, verdict):
    differences = np.array([0.1, 0.11, 0.09, 0.1])[:seeds]
    table = compare(rows_of(a=SEEDS[:seeds], b=SEEDS[:seeds] + differences), [])
    assert table["verdict"].tolist() == [BEST, verdict] * len(COMPARED)


def test_points_are_compared_each_for_itself():
    near, far = (
        rows_of(a=SEEDS, b=2 * SEEDS).assign(gap=2),
        rows_of(a=2 * SEEDS, b=SEEDS).assign(gap=3),
    )
    table = compare(pd.concat([far, near]), ["gap"])
    best = table[table["verdict"] == BEST]
    assert set(zip(best["gap"], best["filter"], strict=True)) == {(2, "a"), (3, "b")}
