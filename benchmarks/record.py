"""Keeps what a study found: from its folder of results into a small table in benchmarks/results.

    make study CONFIG=benchmarks/figure4.yaml
    python benchmarks/record.py scores results/figure4 benchmarks/results/figure4.csv
    python benchmarks/record.py tuning results/tuning benchmarks/results/tuning.csv
    python benchmarks/record.py published results/published benchmarks/results/published_scores.csv

``scores`` writes one row for each cell and filter: what varies in the study (parameters of the
system, observation, gap, members), filter, seed, scores, model runs a cycle, and whether the run
diverged or lost track.
``tuning`` writes one row for each point and filter: chosen and default parameters, and their scores
on the tuning seeds. ``published`` writes one row for each filter in a setting of the literature:
its score beside the published one. benchmarks/README.md says which study each table comes from.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from masf.report.rows import parameter_columns
from masf.scores.comparison import lacking

SCORES = [
    "rmse",
    "rmse_analysis",
    "spread_skill",
    "crps",
    "ssim",
    "csi",
    "mean_distance",
    "covariance_distance",
    "energy_distance",
    "rmse_ratio",
    "rmse_analysis_ratio",
    "spread_ratio",
]
"""Scores that are kept, where a study has them."""
MODEL_RUNS = "model_runs"
TUNING = [
    "situation",
    "filter",
    "chosen",
    "default",
    "tuned_score",
    "default_score",
    "trials",
    "diverged",
]
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
OUTPUT = click.Path(path_type=Path, dir_okay=False)


def recorded(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of a study's scores.parquet, with the columns that are kept, but for runs that are
    missing; rows stay in the study's order.
    """
    scores = scores[~lacking(scores)]
    rows = scores.rename(columns=lambda name: name.removeprefix("parameter_"))
    axes = [name.removeprefix("parameter_") for name in parameter_columns(map(str, scores))]
    varied = [
        name
        for name in ["system", "observation", *axes, "gap", "members", "model"]
        if name in rows and len(rows[name].unique()) > 1
    ]
    kept = [name for name in [*SCORES, MODEL_RUNS] if name in rows and rows[name].notna().any()]
    whole = {
        name: rows[name].astype(int)
        for name in varied
        if name not in {"system", "observation", "model"} and (rows[name] % 1 == 0).all()
    }
    return rows.assign(**whole)[[*varied, "filter", "seed", *kept, "diverged", "lost"]]


def with_model_runs(scores: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a study's scores.parquet, with how often a cycle of each ran the model, in
    forecasts of one member; NaN of a filter that does not say.
    """
    runs = costs.rename(columns={"model_runs_per_cycle": MODEL_RUNS})
    return scores.merge(runs[["cell", "filter", MODEL_RUNS]], "left", on=["cell", "filter"])


@click.group(help=__doc__)
def main() -> None:
    """See the module's docstring."""


@main.command("scores")
@click.argument("results", type=FOLDER)
@click.argument("output", type=OUTPUT)
def scores(results: Path, output: Path) -> None:
    """Keeps the scores of every run."""
    rows = with_model_runs(
        pd.read_parquet(results / "scores.parquet"), pd.read_parquet(results / "costs.parquet")
    )
    recorded(rows).to_csv(output, index=False, float_format="%.4f")


@main.command("tuning")
@click.argument("results", type=FOLDER)
@click.argument("output", type=OUTPUT)
def tuning(results: Path, output: Path) -> None:
    """Keeps what stage tune found."""
    pd.read_csv(results / "tables" / "tuning.csv")[TUNING].to_csv(
        output, index=False, float_format="%.4f"
    )


@main.command("published")
@click.argument("results", type=FOLDER)
@click.argument("output", type=OUTPUT)
def published(results: Path, output: Path) -> None:
    """Keeps scores in settings of the literature; what the study has not run yet stays as it is."""
    text = {"seeds": str}
    rows = pd.read_csv(results / "tables" / "published.csv", dtype=text).drop(columns=["note"])
    if output.exists():
        rows = with_those_before(rows, pd.read_csv(output, dtype=text))
    counts = ["runs", "diverged", "lost", "missing", "cycles", "spin_up_cycles"]
    rows[counts] = rows[counts].astype("Int64")
    rows.to_csv(output, index=False, float_format="%.4g")


def with_those_before(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """The rows, those that hold no run replaced by those of the same filter, with the same
    parameters, in a table that was kept before.
    """
    keys = ["setting", "filter", "members", "parameters"]
    known = {
        tuple(row[k] for k in keys): row
        for row in before.fillna({"parameters": ""}).to_dict("records")
    }
    kept = [
        known.get(tuple(row[k] for k in keys), row) if not row["runs"] else row
        for row in rows.fillna({"parameters": ""}).to_dict("records")
    ]
    return pd.DataFrame(kept, columns=rows.columns)


if __name__ == "__main__":
    main()
