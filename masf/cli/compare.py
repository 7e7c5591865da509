"""``masf compare``: a filter's runs beside those that come with masf."""

from __future__ import annotations

import logging
import math
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

    RESULTS are a study's folder of results, a folder of `masf run -o`, or estimates that masf
    wrote. No rival is run: the scores of the runs behind Figures 3 to 5 come with masf. Differences
    are paired by seed where truth and measurements were the same, which a checksum says, or the
    settings of the cell; elsewhere they are of means, and said to be unpaired.

    \b
    Examples:
      masf compare results/mine
      masf compare first.nc second.nc --rival letkf --rival ienks
    """
    from masf.report.newcomer import runs_in
    from masf.report.rivals import beside, by_situation
    from masf.scores.run import SCORES
    from masf.study.shipped import shipped_runs

    own = [run for path in results for run in runs_in(path)]
    _require_known("--filter", filters, {run.filter for run in own})
    _require_known("--rival", rivals, {run.filter for run in shipped_runs()})
    own = [run for run in own if not filters or run.filter in filters]
    shipped = by_situation(run for run in shipped_runs() if not rivals or run.filter in rivals)
    rows, left_out = [], []
    for situation, runs in by_situation(own).items():
        if situation not in shipped:
            left_out.append(_in_words(runs[0]))
            continue
        for name in dict.fromkeys(run.filter for run in runs):
            of_filter = [run for run in runs if run.filter == name]
            found = beside(of_filter, shipped[situation], score)
            rows += [[_in_words(of_filter[0]), *_row(row)] for row in found]
    if not rows:
        raise click.ClickException(
            "no run that comes with masf is in a situation of these: "
            f"{'; '.join(dict.fromkeys(left_out))}. Those that come are of: {_known(shipped)}"
        )
    heads = [
        "SITUATION", "FILTER", "RUNS", SCORES[score], "TO YOURS", "95% INTERVAL", "THEIRS IS",
        "HOW", "STUDY",
    ]  # fmt: skip
    print_table(heads, rows, always_headed=True)
    for words in dict.fromkeys(left_out):
        logging.warning("nothing that comes with masf is in this situation: %s", words)


def _require_known(option: str, names: tuple[str, ...], known: set[str]) -> None:
    from masf.plugins import suggestion

    for name in names:
        if name not in known:
            raise click.UsageError(
                f"{option} {name}: no run of it is there{suggestion(name, sorted(known))}"
            )


def _row(row: Beside) -> list[str]:
    from masf.report.rivals import IN_WORDS

    counts = [f"{n} {how}" for n, how in ((row.diverged, "diverged"), (row.lost, "lost")) if n]
    of_these = f" ({', '.join(counts)})" if counts else ""
    mean = "none" if math.isnan(row.mean) else f"{row.mean:.3f}"
    spread = "" if math.isnan(row.std) else f" ± {row.std:.3f}"
    return [
        row.filter if row.source else f"{row.filter} (yours)",
        f"{row.runs}{of_these}",
        mean + spread,
        "" if math.isnan(row.difference) else f"{row.difference:+.3f}",
        "" if math.isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]",
        row.verdict,
        f"{row.pairs} seeds, {IN_WORDS[row.how]}" if row.source else "",
        row.source,
    ]


def _in_words(run: Run) -> str:
    s = run.settings
    parameters, observation = (
        ", ".join(f"{key} {_number(value)}" for key, value in content.items())
        for content in (s.parameters, s.observation)
    )
    return f"{s.system} ({parameters}); {observation}; gap {s.gap}, N {s.members}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _known(shipped: dict[str, list[Run]]) -> str:
    """What the situations of shipped runs are, in a line: of each system, the values of what
    varies.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for runs in shipped.values():
        s = runs[0].settings
        values = found.setdefault(s.system, {})
        said = {**s.parameters, **s.observation, "gap": s.gap, "N": s.members}
        for key, value in said.items():
            if (text := _number(value)) not in values.setdefault(key, []):
                values[key].append(text)
    listed = {
        system: ", ".join(f"{key} {' or '.join(texts)}" for key, texts in values.items())
        for system, values in found.items()
    }
    return "; ".join(f"{system} ({words})" for system, words in listed.items())
