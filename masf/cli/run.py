"""``masf run``: filters on one system, in memory; a thin shell over :mod:`masf.api`."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from masf.cli.options import (
    EXISTING,
    OUTPUT,
    OUTPUT_FOLDER,
    GapSpec,
    JsonMapping,
    device_option,
    threads_option,
    use_device,
    use_threads,
)
from masf.cli.output import print_table
from masf.study.markup import read_yaml

if TYPE_CHECKING:
    import xarray as xr

    from masf.files.cell import CellSettings
    from masf.study.config import Experiment
    from masf.study.published import PublishedRun

Spec = tuple[str, str, dict[str, Any]]
"""A filter as it was written, its name, and parameters of it."""

FIGURES, DPI = (".pdf", ".png", ".svg"), 250

SAID_BY_SETTING = ("system", "parameters", "observation", "gap")
"""Options that a setting stands for."""


def pairs(text: str) -> dict[str, Any]:
    """``KEY=VALUE,...`` or a JSON object as a mapping. Raises ValueError where it is neither."""
    if text.lstrip().startswith("{"):
        return JsonMapping().convert(text, None, None)
    # As a flow mapping of YAML, so that values may be lists.
    flow, count = re.subn(r"(^|,)\s*(\w+)=", r"\1\2: ", text)
    found = read_yaml(f"{{{flow}}}")
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Spec:
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
    "--setting",
    help="Instead, a setting of the literature, see `masf list settings`: its filters, beside "
    "their published scores.",
)
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
    help="prior.safetensors of a study; without it, one that is shipped with masf is taken, or a "
    "small one is trained and kept.",
)
@click.option(
    "--train",
    is_flag=True,
    help="Train a small prior, also where one that fits is shipped with masf.",
)
@click.option(
    "--plot",
    "figure",
    type=OUTPUT,
    help="A figure of truth, measurements, estimates and errors, by its end .pdf, .png or .svg.",
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
    setting: str | None,
    filters: tuple[Spec, ...],
    prior: Path | None,
    train: bool,
    figure: Path | None,
    device: str,
    threads: int,
    output: Path | None,
    **options: Any,
) -> None:
    """Run filters on one system in memory; print their scores.

    All filters get the same truth, measurements and initial ensemble. What is not said is taken
    from config/run.yaml, and a filter's parameters from config/filters, as in a study. Where a
    filter needs a prior and none is shipped that fits, one is trained in about half a minute and
    kept in the user's cache folder.

    With --setting, the filters are those whose scores are published there, with their parameters
    and ensemble sizes; --filter and --members choose among them, or name others.

    \b
    Examples:
      masf run --system lorenz96 --filter masf --gap 20 --plot first.png
      masf run -f letkf -f letkf:inflation=1.1,localization_radius=8 --observation every_second
      masf run -s lorenz63 -p rho=30 -f particle -f enkf --gap 25 -o results/first
      masf run --setting sakov2008 -f letkf -f masf_gaussian
    """
    use_threads(threads)
    use_device(device)
    if train and prior is not None:
        raise click.UsageError("--prior names the prior that is taken: leave out --train")
    if figure is not None and figure.suffix not in FIGURES:
        raise click.UsageError(
            f"--plot {figure}: expected a name that ends in {', '.join(FIGURES)}"
        )
    from masf import api
    from masf.files.cost import mean_model_runs
    from masf.files.estimate import SPIN_UP
    from masf.report.words import runs_in_words
    from masf.scores.fields import FLOW_SCORES
    from masf.scores.run import SCORES, SHOWN
    from masf.stages.simulate import simulate_in_memory
    from masf.study import defaults
    from masf.systems.registry import system_class

    plan = (
        _usual(system, filters, options)
        if setting is None
        else _of_setting(setting, filters, {"system": system, **options})
    )
    settings, spin_up_cycles = plan.settings, plan.spin_up_cycles
    if spin_up_cycles >= settings.cycles:
        raise click.UsageError(
            f"--spin-up-cycles {spin_up_cycles} leaves none of {settings.cycles} cycles to score"
        )
    # All is checked before anything runs.
    wanted = [
        defaults.filter_in_cell(
            run.name,
            replace(settings, members=run.members),
            run.parameters,
            has_prior=prior is not None,
        )
        for run in plan.runs
    ]
    logging.info("%s", _cell_in_words(plan))
    truths: dict[int, xr.Dataset] = {}
    estimates: dict[str, xr.Dataset] = {}
    costs: list[list[str]] = []
    for run, found in zip(plan.runs, wanted, strict=True):
        if run.members not in truths:
            truths[run.members] = simulate_in_memory(replace(settings, members=run.members))
        truth = truths[run.members]
        if found.needs_prior and prior is None:
            prior = api.train_prior(truth, device=device, afresh=train)
        logging.info("%s: %s", run.label, json.dumps(found.parameters))
        estimate, trajectory = api.run(
            truth, run.name, run.parameters, prior=prior if found.needs_prior else None,
            device=device,
        )  # fmt: skip
        estimates[run.key] = estimate.assign_attrs({SPIN_UP: spin_up_cycles})
        seconds = trajectory.wall_seconds[: trajectory.diverged_at]
        costs.append([
            f"{float(seconds.mean()) if len(seconds) else 0.0:.2g}",
            runs_in_words(mean_model_runs(trajectory.model_runs)),
        ])  # fmt: skip
    is_flow = system_class(settings.system).flow
    first = next(iter(truths.values()))
    scores = api.score(estimates, spin_up_cycles=spin_up_cycles, truth=first if is_flow else None)
    shown = [*SHOWN, *(FLOW_SCORES if is_flow else ())]
    rows = [
        [
            run.label,
            *([] if setting is None else [str(run.members)]),
            *("diverged" if row["diverged"] else f"{row[key]:.4g}" for key in shown),
            *cost,
            *([] if setting is None else ["" if run.published is None else f"{run.published:g}"]),
        ]
        for run, cost, (_, row) in zip(plan.runs, costs, scores.iterrows(), strict=True)
    ]
    heads = ["FILTER", *(SCORES[key] for key in shown), "s / cycle", "model runs"]
    if setting is not None:
        heads = [heads[0], "N", *heads[1:], "published analysis RMSE"]
    print_table(heads, rows, always_headed=True)
    if output is not None:
        _save(output, plan, truths, estimates, scores)
    if figure is not None:
        _plot(figure, plan, truths, estimates)


@dataclass(frozen=True)
class _Run:
    """A filter that is run: what tables call it, its name, parameters and ensemble size, and the
    score that is published of it.
    """

    label: str
    name: str
    parameters: dict[str, Any]
    members: int
    published: float | None = None

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.label}+members~{self.members}"


@dataclass(frozen=True)
class _Plan:
    """What is run: filters on one truth, each with an ensemble size of its own."""

    settings: CellSettings
    spin_up_cycles: int
    runs: list[_Run]


def _usual(system: str | None, filters: tuple[Spec, ...], options: dict[str, Any]) -> _Plan:
    """What the options say, and config/run.yaml where they say nothing."""
    from masf.files.cell import CellSettings
    from masf.study import defaults

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
    _require_different(specs)
    runs = [_Run(label, name, parameters, settings.members) for label, name, parameters in specs]
    return _Plan(settings, chosen["spin_up_cycles"], runs)


def _of_setting(name: str, filters: tuple[Spec, ...], options: dict[str, Any]) -> _Plan:
    """The runs of a setting, those of the filters that are named, or these filters where it has
    no runs of them or parameters were given.
    """
    from masf.study import defaults

    if said := [key for key in SAID_BY_SETTING if options[key]]:
        raise click.UsageError(
            f"--{said[0]} is said by --setting {name}: leave it out, or leave the setting out"
        )
    _require_different(filters)
    setting = defaults.published_setting(name)
    members, cycles = options["members"] or setting.members, options["cycles"] or setting.cycles
    listed = [
        _Run(_label(run, setting.runs), run.filter, run.parameters, run.members, run.published)
        for run in setting.runs
        if run.filter is not None and options["members"] in (None, run.members)
    ]
    runs = [] if filters else listed
    for label, filter_name, parameters in filters:
        own = [run for run in listed if run.name == filter_name and not parameters]
        runs += own or [_Run(label, filter_name, parameters, members)]
    if not runs:
        raise click.UsageError(
            f"--members {members}: setting {name} has no filter with so many; name one by --filter"
        )
    spin_up_cycles = options["spin_up_cycles"]
    if spin_up_cycles is None:
        spin_up_cycles = min(setting.spin_up_cycles, cycles // 2)  # as in _chosen
    settings = setting.cell(members=members, seed=options["seed"], cycles=cycles)
    return _Plan(settings, spin_up_cycles, runs)


def _label(run: PublishedRun, runs: list[PublishedRun]) -> str:
    """A run's filter, and what tells its parameters from those of the filter's other runs with as
    many members.
    """
    others = [r.parameters for r in runs if (r.filter, r.members) == (run.filter, run.members)]
    telling = [
        f"{key}={value}"
        for key, value in run.parameters.items()
        if any(other.get(key) != value for other in others)
    ]
    return f"{run.filter}:{','.join(telling)}" if telling else str(run.filter)


def _require_different(specs: tuple[Spec, ...]) -> None:
    """Raises UsageError where a filter is given twice."""
    labels = [label for label, *_ in specs]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise click.UsageError(f"--filter {repeated[0]} is given twice: name it once")


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
    from masf.study import defaults
    from masf.study.messages import validated_observation

    if isinstance(said, str):
        return defaults.observation(said).written()
    return validated_observation(said, "--observation: operator").written()


def _cell_in_words(plan: _Plan) -> str:
    settings = plan.settings
    parameters, observation = (
        ", ".join(f"{k} {v}" for k, v in d.items())
        for d in (settings.parameters, settings.observation)
    )
    sizes = ", ".join(str(n) for n in sorted({run.members for run in plan.runs}))
    return (
        f"{settings.system} ({parameters}); measured: {observation}; gap {settings.gap}, "
        f"{sizes} members, {settings.cycles} cycles, the first {plan.spin_up_cycles} not scored, "
        f"seed {settings.seed}"
    )


def _plot(
    path: Path, plan: _Plan, truths: dict[int, xr.Dataset], estimates: dict[str, xr.Dataset]
) -> None:
    """Draws what ran: each filter by its label, with its ensemble size where there are several."""
    import matplotlib as mpl

    mpl.use("agg")
    from masf.atomic import replacing
    from masf.report.figures.first_look import first_look

    called = {
        run.key: run.label if len(truths) == 1 else f"{run.label}, N {run.members}"
        for run in plan.runs
    }
    found = first_look(
        next(iter(truths.values())),  # ensemble sizes share truth and measurements
        {called[run.key]: estimates[run.key] for run in plan.runs},
        plan.spin_up_cycles,
    )
    with replacing(path) as temporary:
        found.savefig(temporary, format=path.suffix[1:], dpi=DPI)
    logging.info("%s", path)


def _save(
    folder: Path,
    plan: _Plan,
    truths: dict[int, xr.Dataset],
    estimates: dict[str, xr.Dataset],
    scores: Any,
) -> None:
    """Writes truth.nc, one file a filter, and scores.parquet; where there are several ensemble
    sizes, names of files say which.
    """
    from masf.atomic import replacing
    from masf.files.netcdf import write

    alone = len(truths) == 1
    for members, truth in truths.items():
        write(folder / ("truth.nc" if alone else f"truth+members~{members}.nc"), truth)
    for run in plan.runs:
        name = run.label if alone else run.key
        name = name.replace(":", "+").replace("=", "~").replace("/", "_")
        write(folder / f"{name}.nc", estimates[run.key])
    s = plan.settings
    parameters = {f"parameter_{k}": v for k, v in sorted(s.parameters.items())}
    sizes = [run.members for run in plan.runs]
    rows = scores.reset_index().assign(
        filter=[run.label for run in plan.runs], system=s.system, **parameters, gap=s.gap,
        members=sizes, seed=s.seed,
    )  # fmt: skip
    with replacing(folder / "scores.parquet") as temporary:
        rows.to_parquet(temporary, index=False)
    logging.info("wrote truth, estimates and scores.parquet to %s", folder)
