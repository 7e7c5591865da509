"""Tables of documents, generated from the results that they name: nobody types a score.

    python benchmarks/tables.py            # writes them anew, into all documents
    python benchmarks/tables.py --check    # fails where a document and its results differ

In a document, a table stands between two comments, of which the first says what it shows, as YAML:

    <!-- table: {csv: figure4.csv, columns: gap, where: "dimension == 40 and forcing == 8"} -->
    <!-- end of table -->

Keys: ``csv``, a file of benchmarks/results, or several, whose rows are set beneath each other where
they have a point in common; ``where``, a pandas query for its rows; ``kind``, one
of the functions in KINDS; all others are arguments of that function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import yaml
from scipy.stats import ttest_1samp

from masf.report.published import published_for_people
from masf.scores.run import SCORES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = ["docs/**/*.md", "README.md", "benchmarks/README.md"]
TABLE = re.compile(r"(<!-- table: (\{.*?\}) -->\n).*?(<!-- end of table -->)", flags=re.DOTALL)
FAULTS = ("diverged", "lost")
"""Columns that say why a run is counted apart from the mean of the others."""
HIGHER_IS_BETTER = {"ssim", "csi"}
RIVAL = "not filter.str.startswith('masf') and filter not in ['free_run', 'particle']"
"""The filters that are neither ours, nor no filter, nor a reference."""


def label(name: str) -> str:
    """What figures and tables call a filter."""
    return str(
        yaml.safe_load((ROOT / "config" / "filters" / f"{name}.yaml").read_text(encoding="utf-8"))[
            "label"
        ]
    )


def in_order(rows: pd.DataFrame) -> list[str]:
    """The filters of some rows, in the order of the whole study, and then those that it lacks."""
    study = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))["filters"]
    found = set(rows["filter"])
    return [*(name for name in study if name in found), *sorted(found - set(study))]


def summary(runs: pd.DataFrame, score: str) -> str:
    """Mean and standard deviation over seeds of the runs that did not diverge or lose track, and
    how many did; empty without this score.
    """
    finished = runs.loc[~runs["diverged"] & ~runs["lost"], score].dropna()
    counts = [f"{runs[kind].sum()} of {len(runs)} {kind}" for kind in FAULTS if runs[kind].any()]
    if finished.empty:
        return ", ".join(counts)
    mean = f"{finished.mean():.3f}"
    spread = f" ± {finished.std():.3f}" if len(finished) > 1 else ""
    return mean + spread + (f" ({', '.join(counts)})" if counts else "")


def sweep(rows: pd.DataFrame, columns: str, score: str = "rmse") -> pd.DataFrame:
    """One row a filter and one column a value of an axis; the best mean of filters of which no run
    diverged or lost track is bold.
    """
    groups, axes = rows.groupby(["filter", columns]), sorted(rows[columns].unique())
    table = pd.DataFrame(
        {
            axis: {name: summary(runs, score) for (name, at), runs in groups if at == axis}
            for axis in axes
        }
    )
    kept = rows.assign(**{score: rows[score].where(~rows["diverged"] & ~rows["lost"])})
    means = kept.pivot_table(
        index="filter",
        columns=columns,
        values=score,
        aggfunc=lambda values: values.mean(skipna=False),
    )
    for axis, best in (means.idxmax() if score in HIGHER_IS_BETTER else means.idxmin()).items():
        table.loc[table.index == best, axis] = "**" + table[axis] + "**"
    return table.loc[in_order(rows)].rename(index=label).rename_axis(index="filter").reset_index()


def relative(rows: pd.DataFrame, columns: str, to: str, score: str = "rmse") -> pd.DataFrame:
    """As ``sweep``, of the score over that of filter ``to`` at the same value and seed.

    Raises:
        ClickException: where a run has none to be divided by.
    """
    point = [columns, "seed"]
    reference = rows[rows["filter"] == to].set_index(point)[score].rename("reference")
    others = rows[rows["filter"] != to].merge(
        reference, "left", on=point, validate="many_to_one", indicator=True
    )
    alone = others.loc[others["_merge"] == "left_only", ["filter", *point]]
    if not alone.empty:
        raise click.ClickException(
            f"kind relative: filter {to} has no run beside {alone.iloc[0].to_dict()}; leave such "
            "runs out by `where`"
        )
    return sweep(others.assign(**{score: others[score] / others["reference"]}), columns, score)


def scores(rows: pd.DataFrame, shown: list[str]) -> pd.DataFrame:
    """One row a filter and one column a score."""
    groups = rows.groupby("filter")
    table = pd.DataFrame(
        {SCORES[score]: groups[[score, *FAULTS]].apply(summary, score) for score in shown}
    )
    return table.loc[in_order(rows)].rename(index=label).reset_index()


def runs(rows: pd.DataFrame, columns: list[str], score: str = "rmse") -> pd.DataFrame:
    """One row a filter and one column a point, named by ``columns``, where there is one seed."""
    point = rows[columns].astype(str).agg(", ".join, axis=1)
    table = rows.assign(point=point).pivot_table(
        index="filter", columns="point", values=score, sort=False, dropna=False
    )
    return (
        table.loc[in_order(rows)]
        .map("{:.3f}".format)
        .replace("nan", "diverged")
        .rename(index=label)
        .reset_index()
    )


def points_of(
    rows: pd.DataFrame, columns: list[str], score: str = "rmse", ours: str = "masf"
) -> list[dict[str, Any]]:
    """Filter ``ours`` against the best rival at each point: the one with the lowest mean of those
    that diverged on no seed.
    """
    found = []
    for values, point in rows.groupby(columns, sort=False):
        by_seed = point.pivot_table(
            index="seed", columns="filter", values=score, dropna=False
        ).dropna(axis="columns")
        rivals = sorted(set(point.query(RIVAL)["filter"]) & set(by_seed))
        best = by_seed[rivals].mean().idxmin()
        differences = by_seed[best] - by_seed[ours]
        low, high = ttest_1samp(differences, 0.0).confidence_interval(0.95)
        found.append(
            dict(zip(columns, values, strict=True))
            | {
                "ours": by_seed[ours].mean(),
                "rival": best,
                "theirs": by_seed[best].mean(),
                "low": low,
                "high": high,
            }
            | {"difference": differences.mean(), "lowest": by_seed.mean().idxmin()}
        )
    return found


def against(
    rows: pd.DataFrame, columns: list[str], score: str = "rmse", ours: str = "masf"
) -> pd.DataFrame:
    """The rival's RMSE less that of ``ours`` at each point, paired by seed, with a 95% confidence
    interval by Student's t.
    """
    return pd.DataFrame(
        [
            {name: point[name] for name in columns}
            | {
                label(ours): f"{point['ours']:.3f}",
                "best rival": label(point["rival"]),
                "its RMSE": f"{point['theirs']:.3f}",
            }
            | {f"over {label(ours)}": f"{point['theirs'] / point['ours']:.2f}"}
            | {
                "difference, 95%": f"{point['difference']:+.3f} [{point['low']:+.3f}, "
                f"{point['high']:+.3f}]"
            }
            | {
                "lower": "not told apart"
                if point["low"] <= 0 <= point["high"]
                else label(ours)
                if point["low"] > 0
                else "rival"
            }
            for point in points_of(rows, columns, score, ours)
        ]
    )


def count(rows: pd.DataFrame, columns: list[str], score: str = "rmse") -> pd.DataFrame:
    """At how many points masf has the lowest mean, and is told apart from the best rival."""
    points = points_of(rows, columns, score)
    told = np.array([point["low"] > 0 for point in points])
    return pd.DataFrame([{
        "points": len(points),
        "MASF has the lowest mean of all": sum(point["lowest"] == "masf" for point in points),
        "MASF below the best rival": sum(point["difference"] > 0 for point in points),
        "of these told apart (95%)": int(told.sum()),
        "best rival below MASF": sum(point["difference"] < 0 for point in points),
        "of these told apart": sum(point["high"] < 0 for point in points),
    }])  # fmt: skip


def rows_of(rows: pd.DataFrame, columns: dict[str, str], digits: int = 3) -> pd.DataFrame:
    """The rows as they are: chosen columns under new names, numbers with so many significant
    digits.
    """
    table = rows[list(columns)].rename(columns=columns)
    return table.apply(
        lambda values: (
            values.map(f"{{:#.{digits}g}}".format) if values.dtype == float else values.fillna("")
        )
    ).replace("nan", "")


def mean(
    rows: pd.DataFrame, by: list[str], columns: dict[str, str], digits: int = 3
) -> pd.DataFrame:
    """Means of columns over rows that agree in ``by``."""
    return rows_of(
        rows.groupby(by, sort=False)[list(columns)].mean().reset_index(),
        {name: name for name in by} | columns,
        digits,
    )


def published(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores in settings of the literature, as a study shows them."""
    return published_for_people(rows.fillna({"parameters": ""}))


KINDS: dict[str, Callable[..., pd.DataFrame]] = {
    "sweep": sweep,
    "relative": relative,
    "scores": scores,
    "runs": runs,
    "against": against,
    "count": count,
    "rows": rows_of,
    "mean": mean,
    "published": published,
}


def read(results: list[str]) -> pd.DataFrame:
    """The rows of one or several results: of later ones those of the points that the first has. A
    point is what stands before the filter in a row.

    Raises:
        ClickException: where results name their points by other columns, or have the same run.
    """
    tables = [pd.read_csv(RESULTS / name) for name in results]
    point = _point_columns(tables[0])
    points = tables[0][point].drop_duplicates()
    for name, rows in zip(results[1:], tables[1:], strict=True):
        if _point_columns(rows) != point:
            raise click.ClickException(
                f"{name}: its points are named by {_point_columns(rows)}, those of {results[0]} by "
                f"{point}; only results with the same columns go beneath each other"
            )
    table = pd.concat([tables[0], *(rows.merge(points) for rows in tables[1:])], ignore_index=True)
    runs = [*point, "filter", "seed"]
    if len(results) > 1 and (twice := table.duplicated(runs)).any():
        raise click.ClickException(f"{results}: have the same run: {table[runs][twice].iloc[0]}")
    return table


def _point_columns(rows: pd.DataFrame) -> list[str]:
    return list(rows.columns[: rows.columns.get_loc("filter")]) if "filter" in rows else []


def table(
    csv: str | list[str], kind: str = "sweep", where: str | None = None, **options: Any
) -> str:
    """A table in Markdown."""
    rows = read([csv] if isinstance(csv, str) else csv)
    if "diverged" in rows and "lost" not in rows:  # kept before lost tracks were counted
        rows["lost"] = False
    shown = KINDS[kind](rows if where is None else rows.query(where), **options)
    return shown.astype(str).to_markdown(index=False, disable_numparse=True)


def filled(text: str) -> str:
    """A document with its tables as the results have them."""
    return TABLE.sub(
        lambda found: f"{found[1]}\n{table(**yaml.safe_load(found[2]))}\n\n{found[3]}", text
    )


@click.command(help=__doc__)
@click.option(
    "--check", is_flag=True, help="Write nothing; fail where a document and its results differ."
)
def main(check: bool) -> None:
    """See the module's docstring."""
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            if check:
                raise click.ClickException(
                    f"{path.relative_to(ROOT)}: not as the results have it; run python "
                    "benchmarks/tables.py"
                )
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
