"""``masf run``: filters on one cell, in memory; a thin shell over :mod:`masf.api`."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from masf.cli.options import (
    EXISTING,
    OUTPUT_FOLDER,
    GapSpec,
    JsonMapping,
    device_option,
    threads_option,
    use_device,
    use_threads,
)
from masf.cli.output import print_table

if TYPE_CHECKING:
    import xarray as xr

    from masf.files.cell import CellSettings
    from masf.study.config import Experiment


def pairs(text: str) -> dict[str, Any]:
    """``KEY=VALUE,...`` or a JSON object as a mapping. Raises ValueError where it is neither."""
    if text.lstrip().startswith("{"):
        return JsonMapping().convert(text, None, None)
    # As a flow mapping of YAML, so that values may be lists.
    flow, count = re.subn(r"(^|,)\s*(\w+)=", r"\1\2: ", text)
    found = yaml.safe_load(f"{{{flow}}}")
    if len(found) != count:
        raise ValueError(f"{text!r}: expected KEY=VALUE,..., such as inflation=1.05")
    return found


class Pairs(click.ParamType):
    """KEY=VALUE,... or a JSON object."""

    name = "KEY=VALUE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return value if isinstance(value, dict) else pairs(value)
        except (ValueError, yaml.YAMLError) as error:
            self.fail(str(error), param, ctx)


class FilterSpec(click.ParamType):
    """A filter's name, and parameters of it."""

    name = "NAME[:KEY=VALUE,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, _, parameters = value.partition(":")
        return value, name, Pairs().convert(parameters, param, ctx)


class ObservationSpec(click.ParamType):
    """The name of an observation, or one in full."""

    name = "NAME|KEY=VALUE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return (
            value if "=" not in value and "{" not in value else Pairs().convert(value, param, ctx)
        )


@click.command()
@click.option("-s", "--system", help="A system, see `masf list systems`.  [default: lorenz96]")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    type=FilterSpec(),
    help="A filter, see `masf list filters`; may be repeated.  [default: letkf, masf_gaussian "
    "and masf]",
)
@click.option(
    "-p",
    "--parameters",
    default="",
    type=Pairs(),
    help="Parameters of the system, such as forcing=10,dimension=100.",
)
@click.option(
    "--observation",
    type=ObservationSpec(),
    help="What is measured: all, every_second or grid; or as in a config, such as "
    "operator=stride,stride=4,noise=0.5.",
)
@click.option(
    "--gap",
    type=GapSpec(),
    help="Model steps between two measurements, or a pattern of them that repeats: 5-10-20.",
)
@click.option("--members", type=click.IntRange(2), help="Ensemble size.")
@click.option("--cycles", type=click.IntRange(1), help="Measurements.")
@click.option(
    "--spin-up-cycles", type=click.IntRange(0), help="First cycles that the scores leave out."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Fixes all random numbers."
)
@click.option(
    "--prior",
    type=EXISTING,
    help="prior.safetensors of a study; without it, a small one is trained and kept.",
)
@device_option
@threads_option
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    help="Folder to keep truth, estimates and scores in.",
)
def run(
    system: str | None,
    filters: tuple[tuple[str, str, dict[str, Any]], ...],
    prior: Path | None,
    device: str,
    threads: int,
    output: Path | None,
    **options: Any,
) -> None:
    """Run filters on one system in memory; print their scores.

    All filters get the same truth, measurements and initial ensemble. What is not said is taken
    from config/run.yaml, and a filter's parameters from config/filters, as in a study. A prior that
    a filter needs is trained in about half a minute and kept in the user's cache folder.

    \b
    Examples:
      masf run --system lorenz96 --filter masf --gap 20
      masf run -f letkf -f letkf:inflation=1.1,localization_radius=8 --observation every_second
      masf run -s lorenz63 -p rho=30 -f particle -f enkf --gap 25 -o results/first
    """
    use_threads(threads)
    use_device(device)
    from masf import api
    from masf.files.cell import CellSettings, build
    from masf.files.cost import mean_model_runs
    from masf.files.estimate import SPIN_UP
    from masf.report.words import runs_in_words
    from masf.scores.fields import FLOW_SCORES
    from masf.scores.run import SCORES, SHOWN
    from masf.study import defaults
    from masf.systems.registry import system_class

    usual = defaults.experiment(system)
    chosen = _chosen(usual, options)
    settings = CellSettings(
        system=usual.system,
        parameters={k: v for k, v in usual.parameters.items() if k not in options["parameters"]}
        | options["parameters"],
        observation=_observation(chosen["observation"]),
        initial_spread=usual.initial_spread,
        seed=options["seed"],
        **{key: chosen[key] for key in ("gap", "cycles", "members")},
    )
    specs = filters or tuple((name, name, {}) for name in defaults.usual_filters(usual))
    labels = [label for label, *_ in specs]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise click.UsageError(f"--filter {repeated[0]} is given twice: name it once")
    if chosen["spin_up_cycles"] >= settings.cycles:
        raise click.UsageError(
            f"--spin-up-cycles {chosen['spin_up_cycles']} leaves none of {settings.cycles} "
            "cycles to score"
        )
    # All is checked before anything runs.
    wanted = [
        defaults.filter_in_cell(name, settings, parameters, has_prior=prior is not None)
        for _, name, parameters in specs
    ]
    logging.info("%s", _cell_in_words(settings, chosen["spin_up_cycles"]))
    truth = api.simulate(
        *build(settings), gap=settings.gap, cycles=settings.cycles, members=settings.members,
        initial_spread=usual.initial_spread, seed=settings.seed,
    )  # fmt: skip
    estimates: dict[str, xr.Dataset] = {}
    costs: dict[str, list[str]] = {}
    for (label, name, parameters), found in zip(specs, wanted, strict=True):
        if found.needs_prior and prior is None:
            prior = api.train_prior(truth, device=device)
        logging.info("%s: %s", label, json.dumps(found.parameters))
        estimate, trajectory = api.run(
            truth, name, parameters, prior=prior if found.needs_prior else None, device=device
        )
        estimates[label] = estimate.assign_attrs({SPIN_UP: chosen["spin_up_cycles"]})
        seconds = trajectory.wall_seconds[: trajectory.diverged_at]
        costs[label] = [
            f"{float(seconds.mean()) if len(seconds) else 0.0:.2g}",
            runs_in_words(mean_model_runs(trajectory.model_runs)),
        ]
    is_flow = system_class(settings.system).flow
    scores = api.score(
        estimates, spin_up_cycles=chosen["spin_up_cycles"], truth=truth if is_flow else None
    )
    shown = [*SHOWN, *(FLOW_SCORES if is_flow else ())]
    rows = [
        [
            str(label),
            *("diverged" if row["diverged"] else f"{row[key]:.4g}" for key in shown),
            *costs[str(label)],
        ]
        for label, row in scores.iterrows()
    ]
    heads = ["FILTER", *(SCORES[key] for key in shown), "s / cycle", "model runs"]
    print_table(heads, rows, always_headed=True)
    if output is not None:
        _save(output, truth, estimates, scores)


def _chosen(usual: Experiment, options: dict[str, Any]) -> dict[str, Any]:
    """What was said, and what is usual for the system where nothing was."""
    found = {
        "gap": usual.gaps[0],
        "members": usual.sizes[0],
        "cycles": usual.cycles,
        "spin_up_cycles": usual.spin_up_cycles,
        "observation": usual.observations[0],
    }
    said = {key: value for key, value in options.items() if key in found and value is not None}
    if "cycles" in said and "spin_up_cycles" not in said:
        # A short run still has something to score.
        found["spin_up_cycles"] = min(usual.spin_up_cycles, said["cycles"] // 2)
    return found | said


def _observation(said: str | dict[str, Any]) -> dict[str, Any]:
    from masf.observations.settings import observation_settings
    from masf.study import defaults

    found = defaults.observation(said) if isinstance(said, str) else observation_settings(said)
    return found.written()


def _cell_in_words(settings: CellSettings, spin_up_cycles: int) -> str:
    parameters, observation = (
        ", ".join(f"{k} {v}" for k, v in d.items())
        for d in (settings.parameters, settings.observation)
    )
    return (
        f"{settings.system} ({parameters}); measured: {observation}; gap {settings.gap}, "
        f"{settings.members} members, "
        f"{settings.cycles} cycles, the first {spin_up_cycles} not scored, seed {settings.seed}"
    )


def _save(folder: Path, truth: xr.Dataset, estimates: dict[str, xr.Dataset], scores: Any) -> None:
    """Writes truth.nc, one file a filter, and scores.parquet."""
    from masf.atomic import replacing
    from masf.files.netcdf import write

    write(folder / "truth.nc", truth)
    for label, estimate in estimates.items():
        write(
            folder / f"{label.replace(':', '+').replace('=', '~').replace('/', '_')}.nc", estimate
        )
    settings = json.loads(truth.attrs["settings"])
    situation = {"system": settings["system"]} | {
        f"parameter_{k}": v for k, v in settings["parameters"].items()
    }
    situation |= {key: settings[key] for key in ("gap", "members", "seed")}
    with replacing(folder / "scores.parquet") as temporary:
        scores.reset_index().assign(**situation).to_parquet(temporary, index=False)
    logging.info("wrote truth.nc, scores.parquet and a file for each filter to %s", folder)
