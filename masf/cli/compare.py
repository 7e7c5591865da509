"""``masf compare``: a filter's runs beside those that come with masf."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from masf.cli.output import print_table

if TYPE_CHECKING:
    from masf.report.rivals import Beside
    from masf.study.shipped import Run


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-f", "--filter", "filters", multiple=True,
    help="A filter in RESULTS; may be repeated. All without this.",
)  # fmt: skip
@click.option(
    "-r", "--rival", "rivals", multiple=True,
    help="A filter whose runs come with masf; may be repeated. All without this.",
)  # fmt: skip
@click.option(
    "--score", default="rmse", show_default=True,
    type=click.Choice(["rmse", "rmse_analysis", "crps", "ssim", "csi"]),
    help="What is compared.",
)  # fmt: skip
def compare(
    results: tuple[Path, ...], filters: tuple[str, ...], rivals: tuple[str, ...], score: str
) -> None:
    """Set a filter's runs beside those that come with masf.

    RESULTS are a study's folder of results, a folder of `masf run -o`, a folder that holds such
    folders, or estimates that masf wrote. No rival is run: the scores of the runs behind Figures 3
    to 5 come with masf. Differences are paired by seed where truth and measurements were the same,
    which a checksum says, or the settings of the cell, and a rival's mean is of these seeds;
    elsewhere they are of means, and said to be unpaired.

    MODEL RUNS says how often a cycle runs the model from one measurement to the next, of one
    member; it is empty where nobody kept it. A rival that runs it several times has a row of its
    own, as masf_passes has beside masf.

    \b
    Examples:
      masf compare results/mine
      masf compare first.nc second.nc --rival letkf --rival ienks
    """
    from masf.report.newcomer import runs_in
    from masf.report.rivals import beside, by_situation, nearest, runs_on_one_seed
    from masf.scores.run import SCORES
    from masf.study.shipped import shipped_runs

    own = [run for path in results for run in runs_in(path)]
    _require_known("--filter", filters, {run.filter for run in own})
    _require_known("--rival", rivals, {run.filter for run in shipped_runs()})
    own = [run for run in own if not filters or run.filter in filters]
    if same := runs_on_one_seed(own):
        raise click.ClickException(
            f"{same[0].source} and {same[1].source}: both have a run of {same[0].filter} on seed "
            f"{same[0].settings.seed} in one situation; name one of them"
        )
    wanted = [run for run in shipped_runs() if not rivals or run.filter in rivals]
    shipped = by_situation(wanted)
    rows, left_out = [], []
    for situation, runs in by_situation(own).items():
        if situation not in shipped:
            left_out.append(_left_out(runs[0], nearest(runs[0], wanted)))
            continue
        groups: dict[tuple[str, int, int], list[Run]] = defaultdict(list)
        for run in runs:  # a study may have runs of several lengths in one situation
            groups[run.filter, run.settings.cycles, run.spin_up_cycles].append(run)
        for of_filter in groups.values():
            found = beside(of_filter, shipped[situation], score)
            rows += [[_in_words(of_filter[0]), *_row(row, len(of_filter))] for row in found]
    if not rows:
        raise click.ClickException(
            f"no run that comes with masf is in a situation of these: {'; '.join(left_out)}"
        )
    heads = [
        "SITUATION", "FILTER", "SEEDS", "MODEL RUNS", SCORES[score], "TO YOURS", "95% INTERVAL",
        "THEIRS IS", "HOW", "STUDY",
    ]  # fmt: skip
    print_table(heads, rows, always_headed=True)
    for words in left_out:
        logging.warning("nothing that comes with masf is in this situation: %s", words)


def _require_known(option: str, names: tuple[str, ...], known: set[str]) -> None:
    from masf.plugins import suggestion

    for name in names:
        if name not in known:
            raise click.UsageError(
                f"{option} {name}: no run of it is there{suggestion(name, sorted(known))}"
            )


def _row(row: Beside, runs: int) -> list[str]:
    """A row of the table, where the newcomer has so many runs."""
    from masf.report.rivals import IN_WORDS

    counts = [f"{n} {how}" for n, how in ((row.diverged, "diverged"), (row.lost, "lost")) if n]
    of_these = f" ({', '.join(counts)})" if counts else ""
    mean = "none" if math.isnan(row.mean) else f"{row.mean:.3f}"
    spread = "" if math.isnan(row.std) else f" ± {row.std:.3f}"
    return [
        row.filter if row.source else f"{row.filter} (yours)",
        f"{row.runs}{of_these}",
        "" if math.isnan(row.model_runs) else f"{row.model_runs:.3g}",
        mean + spread,
        "" if math.isnan(row.difference) else f"{row.difference:+.3f}",
        "" if math.isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]",
        row.verdict,
        f"{_seeds(row.pairs, runs)}, {IN_WORDS[row.how]}" if row.source else "",
        row.source,
    ]


def _seeds(counted: int, of: int) -> str:
    """How many seeds are compared, of those that the newcomer ran."""
    return f"{counted} of {of} seeds" if counted != of else f"{of} seed{'s' if of > 1 else ''}"


def _left_out(run: Run, other: Run | None) -> str:
    """A situation that nothing is in, and the nearest that something is in."""
    from masf.study.shipped import shipped_runs
    from masf.study.situations import differences

    if other is None:
        known = ", ".join(dict.fromkeys(run.settings.system for run in shipped_runs()))
        return f"{_in_words(run)} (those that come are of {known})"
    apart = differences(*(json.loads(r.situation) for r in (run, other))).items()
    words = ", ".join(f"{key} {_number(b)} in place of {_number(a)}" for key, (a, b) in apart)
    return f"{_in_words(run)} (the nearest that is there: {words})"


def _in_words(run: Run) -> str:
    s = run.settings
    parameters, observation = (
        ", ".join(f"{key} {_number(value)}" for key, value in content.items())
        for content in (s.parameters, s.observation)
    )
    return f"{s.system} ({parameters}); {observation}; gap {s.gap}, N {s.members}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
