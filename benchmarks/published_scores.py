"""Long twin experiments whose scores are published, run with our systems, filters and cycle: do the
classical filters work?

    export OMP_NUM_THREADS=1
    python benchmarks/published_scores.py --output benchmarks/results/published_scores.csv

The scores are those that DAPPER 1.7 lists with its settings (dapper/mods/.../FILE.py), collected
from the papers that it names. Each is the mean over analyses of the RMSE over components, spin-up
left out; its standard error comes from the means of blocks of cycles. Localisation radii are given
as DAPPER's `loc_rad`, 1/1.82 of ours, and two neighbours share a transform of the LETKF, as there.
What differs from DAPPER: the initial state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from masf.files.cell import CellSettings
from masf.scores.metrics import rmse_over_components
from masf.stages.assimilate import run_filter
from masf.stages.simulate import simulate

BLOCKS = 10
"""Blocks of cycles in each run: long ones, so that their means are nearly independent."""


@dataclass(frozen=True)
class Setting:
    """What DAPPER calls an HMM, with standard deviations for its variances; ``cycles`` are ours,
    after the spin-up.
    """

    file: str
    system: str
    parameters: dict[str, Any]
    gap: int
    initial_spread: float
    cycles: int
    observation: dict[str, Any] = field(
        default_factory=lambda: {"operator": "identity", "noise": 1.0}
    )


LORENZ96 = {"dimension": 40, "forcing": 8.0}
SMALL = math.sqrt(0.001)
EVERY_SECOND = {"operator": "stride", "stride": 2, "noise": math.sqrt(0.5)}
SAKOV2008 = Setting("Lorenz96/sakov2008", "lorenz96", LORENZ96 | {"dt": 0.05}, 1, SMALL, 3000)
HOTEIT2015 = Setting("Lorenz96/hoteit2015", "lorenz96", LORENZ96 | {"dt": 0.05}, 1, SMALL, 3000)
SPANTINI2019 = Setting(
    "Lorenz96/spantini2019",
    "lorenz96",
    LORENZ96 | {"dt": 0.02},
    20,
    math.sqrt(0.1),
    1000,
    EVERY_SECOND,
)
SAKOV2012 = Setting(
    "Lorenz63/sakov2012",
    "lorenz63",
    {"dt": 0.01},
    25,
    math.sqrt(2),
    6000,
    {"operator": "identity", "noise": math.sqrt(2)},
)

TODTER2015 = Setting(
    "Lorenz96/todter2015_G",
    "lorenz96",
    {"dimension": 80, "forcing": 8.0, "dt": 0.05},
    2,
    SMALL,
    2000,
    {"operator": "stride", "stride": 2, "noise": 1.0},
)
ANDERSON2010 = Setting(
    "Lorenz63/anderson2010rhf",
    "lorenz63",
    {"dt": 0.01},
    12,
    math.sqrt(2),
    4000,
    {"operator": "identity", "noise": math.sqrt(8)},
)


@dataclass(frozen=True)
class Case:
    """A filter in a setting, with DAPPER's parameters; ``others`` are ours alone."""

    setting: Setting
    filter: str
    members: int
    inflation: float
    rotation: bool
    loc_rad: float | None
    published: float
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of our filter."""
        parameters: dict[str, Any] = {"inflation": self.inflation}
        if self.filter != "enkf":
            parameters["rotation"] = self.rotation
        if self.loc_rad is not None:
            parameters |= {"localization_radius": 1.82 * self.loc_rad, "block": 2}
        return parameters | self.others


CASES = [
    Case(SAKOV2008, "enkf", 40, 1.06, False, None, 0.22),
    Case(SAKOV2008, "enkf", 28, 1.08, False, None, 0.24),
    Case(SAKOV2008, "etkf", 24, 1.013, True, None, 0.18),
    Case(SAKOV2008, "etkf", 20, 1.04, True, None, 0.20),
    Case(SAKOV2008, "letkf", 7, 1.04, True, 4, 0.22),
    Case(HOTEIT2015, "etkf", 28, 1.02, True, None, 0.18),
    Case(HOTEIT2015, "letkf", 10, 1.02, True, 4, 0.21),
    Case(HOTEIT2015, "letkf", 10, 1.04, True, 6, 0.20),
    Case(HOTEIT2015, "letkf", 10, 1.10, True, 10, 0.22),
    Case(SPANTINI2019, "etkf", 100, 1.10, False, None, 0.97),
    Case(SPANTINI2019, "letkf", 40, 1.10, False, 4, 1.0),
    Case(SPANTINI2019, "letkf", 100, 1.02, False, 4, 0.84),
    Case(SAKOV2012, "enkf", 10, 1.04, False, None, 0.65),
    Case(SAKOV2012, "enkf", 100, 1.01, False, None, 0.56),
    Case(SAKOV2012, "etkf", 3, 1.30, False, None, 0.80),
    Case(SAKOV2012, "etkf", 10, 1.02, True, None, 0.60),
    Case(TODTER2015, "letkf", 40, 1.04, True, 5, 0.42, {"block": 1}),
    Case(TODTER2015, "lnetf", 40, 1.10, True, 5, 0.54, {"block": 1, "noise_factor": 1.9}),
    Case(TODTER2015, "lnetf", 80, 1.06, True, 5, 0.47, {"block": 1, "noise_factor": 1.4}),
    Case(ANDERSON2010, "rhf", 50, 1.10, False, None, 1.28, {"localization_radius": None}),
]


def analysis_errors(case: Case, seed: int, spin_up: int) -> tuple[np.ndarray, bool]:
    """The RMSE of each analysis of one run after the spin-up (cycles,), and whether it diverged."""
    s, cycles = case.setting, spin_up + case.setting.cycles
    cell = CellSettings(
        s.system, s.parameters, s.observation, s.gap, cycles, case.members, s.initial_spread, seed
    )
    truth = simulate(cell)
    trajectory, _, _ = run_filter(
        case.filter, case.parameters, truth, device="cpu", saved_members=0
    )
    at_analyses = slice((spin_up + 1) * s.gap, None, s.gap)
    return rmse_over_components(
        trajectory.mean[at_analyses], truth.truth[at_analyses]
    ), trajectory.diverged_at is not None


@click.command(help=__doc__)
@click.option("--spin-up", default=400, show_default=True, help="Cycles left out.")
@click.option(
    "--seeds",
    default=2,
    show_default=True,
    help="Runs of each case. Small ensembles lose track at times: take more.",
)
@click.option(
    "--only",
    type=int,
    multiple=True,
    help="Run these cases, counted from 0; others in the table stay.",
)
@click.option("--output", type=click.Path(path_type=Path))
def main(spin_up: int, seeds: int, only: tuple[int, ...], output: Path | None) -> None:
    """Runs the cases; see the module's docstring."""
    rows = []
    for i in only or range(len(CASES)):
        case = CASES[i]
        runs = [analysis_errors(case, seed, spin_up) for seed in range(300, 300 + seeds)]
        blocks = np.concatenate(
            [np.array_split(errors, BLOCKS) for errors, _ in runs], axis=0
        ).mean(axis=1)
        ours, error = float(blocks.mean()), float(blocks.std(ddof=1) / math.sqrt(len(blocks)))
        rows.append(
            {
                "case": i,
                "source": case.setting.file,
                "filter": case.filter,
                "members": case.members,
                "inflation": case.inflation,
                "rotation": case.rotation,
                "loc_rad": case.loc_rad,
                "published": case.published,
                "ours": ours,
                "standard_error": error,
                "ratio": ours / case.published,
                "diverged": sum(diverged for _, diverged in runs),
                "runs": seeds,
                "cycles": case.setting.cycles,
            }
        )
        click.echo(
            f"{i}: {case.setting.file} {case.filter} N {case.members}: {case.published} published, "
            f"{ours:.4f} +- {error:.4f} here",
            err=True,
        )
    table = pd.DataFrame(rows)
    click.echo(table.to_string(index=False, float_format="%.4g"))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            table = (
                pd.concat([pd.read_csv(output), table])
                .drop_duplicates("case", keep="last")
                .sort_values("case")
            )
        table.to_csv(output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
