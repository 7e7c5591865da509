"""The table from which jobs' cost is predicted, masf/study/measured_costs.csv, from the results of
a study.

    snakemake --profile local --cores 1 --configfile benchmarks/measured_costs.yaml
    python benchmarks/measured_costs.py results/costs/costs.parquet masf/study/measured_costs.csv

`masf plan --measured` takes a table that this script made of the costs of another study, such as
results/quick/costs.parquet, on your own machine. Seconds are of processor time where nothing was
computed on a GPU: other work on the machine does not count.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from masf.report.rows import parameter_columns
from masf.study.costs import COLUMNS
from masf.systems.registry import make_system


@click.command(help=__doc__)
@click.argument("costs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
def main(costs: Path, output: Path) -> None:
    """Writes the table; see the module's docstring."""
    rows = pd.read_parquet(costs)
    parameters = parameter_columns(map(str, rows))
    rows["dimension"] = [
        make_system(
            row["system"],
            {c.removeprefix("parameter_"): row[c] for c in parameters if pd.notna(row[c])},
        ).dimension
        for _, row in rows.iterrows()
    ]
    rows["device"] = rows["device"].replace("numpy", "cpu")
    on_gpu = rows["device"] == "cuda"
    rows["seconds_per_cycle"] = rows["seconds_per_cycle"].where(
        on_gpu, rows["cpu_seconds_per_cycle"]
    )
    keys = COLUMNS[:-2]
    table = rows.groupby(keys, as_index=False)[COLUMNS[-2:]].mean().dropna()
    table["seconds_per_cycle"] = table["seconds_per_cycle"].map("{:.3g}".format)
    table["peak_memory_mib"] = table["peak_memory_mib"].map("{:.0f}".format)
    table.to_csv(output, index=False)


if __name__ == "__main__":
    main()
