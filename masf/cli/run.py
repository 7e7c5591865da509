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
    import pandas as pd
    import xarray as xr

    from masf.cli.kept import Kept
    from masf.files.cell import CellSettings
    from masf.study.config import Experiment
    from masf.study.published import PublishedRun

Spec = tuple[str, str, dict[str, Any]]
"""A filter as it was written, its name, and parameters of it."""

FIGURES, DPI = (".pdf", ".png", ".svg"), 250

SAID_BY_SETTING = ("system", "parameters", "observation", "gap", "initial_spread")
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
    "--initial-spread",
    type=click.FloatRange(0, min_open=True),
    help="Standard deviation of the initial ensemble, and of the truth, about a typical state.",
)
@click.option(
    "--spin-up-cycles", type=click.IntRange(0), help="First cycles that the scores leave out."
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    default=[0],
    show_default="0",
    type=click.IntRange(0),
    help="Fixes all random numbers; may be repeated: scores are then means over seeds, and outputs "
    "of each lie in a folder of its own.",
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
    help="A figure of truth, measurements, estimates and errors, by its end .pdf, .png or .svg; of "
    "the first seed.",
)
@device_option
@threads_option
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    help="Folder to keep truth, estimates and scores in; what is there of the same truth stays.",
)
def run(
    system: str | None,
    setting: str | None,
    filters: tuple[Spec, ...],
    seeds: tuple[int, ...],
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
    kept in the user's cache folder. A filter that lost track of the truth, and estimates some other
    state, is marked; of several seeds, such runs and those that diverged are counted, and left out
    of the means.

    With --setting, the filters are those whose scores are published there, with their parameters
    and ensemble sizes; --filter and --members choose among them, or name others.

    \b
    Examples:
      masf run --system lorenz96 --filter masf --gap 20 --plot first.png
      masf run -f letkf -f letkf:inflation=1.1,localization_radius=8 --observation every_second
      masf run -s lorenz63 -p rho=30 -f particle -f enkf --gap 25 -o results/first
      masf run -f letkf -f etkf --seed 0 --seed 1 --seed 2 --seed 3
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
    from masf.stages.simulate import simulate_in_memory
    from masf.study import defaults

    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise click.UsageError(f"--seed {repeated[0]} is given twice: name it once")
    options["seed"] = seeds[0]
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
    if (prior is not None or train) and not any(found.needs_prior for found in wanted):
        option = "--train" if prior is None else f"--prior {prior}"
        raise click.UsageError(f"{option}: no filter here takes a prior: leave it out")
    plans = [replace(plan, settings=replace(settings, seed=seed)) for seed in seeds]
    folders = [None] * len(seeds) if output is None else _kept(output, plans)
    logging.info("%s", _cell_in_words(plan, seeds))
    for run, found in zip(plan.runs, wanted, strict=True):
        logging.info("%s: %s", run.label, json.dumps(found.parameters))
        for doubt in found.tuned_apart(run.parameters):
            logging.info("%s: %s", run.label, doubt)
    outcomes: list[_Outcome] = []
    try:
        for of_seed, folder in zip(plans, folders, strict=True):
            truths = {
                n: simulate_in_memory(replace(of_seed.settings, members=n))
                for n in dict.fromkeys(run.members for run in plan.runs)
            }
            if folder is not None:
                folder.require_same(truths)
            if prior is None and any(found.needs_prior for found in wanted):
                prior = api.train_prior(next(iter(truths.values())), device=device, afresh=train)
            priors = [prior if found.needs_prior else None for found in wanted]
            outcome, estimates = _ran(of_seed, truths, priors, device)
            outcomes.append(outcome)
            if folder is not None:
                folder.save(truths, estimates, outcome.rows(of_seed))
            if figure is not None and len(outcomes) == 1:
                _plot(figure, plan, truths, estimates)
    finally:  # what was found is shown, whatever hinders the rest
        if outcomes:
            print_table(*_table(plan, outcomes, of_setting=setting is not None), always_headed=True)


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
    def key(self) -> tuple[str, int]:
        """What tells it from the others."""
        return self.label, self.members


@dataclass(frozen=True)
class _Plan:
    """What is run: filters on one truth, each with an ensemble size of its own."""

    settings: CellSettings
    spin_up_cycles: int
    runs: list[_Run]


@dataclass(frozen=True)
class _Outcome:
    """What the runs of a plan found: one row each, in their order."""

    scores: pd.DataFrame
    seconds: list[float]
    """Of a cycle, mean over those that were finished."""
    model_runs: list[float]

    def rows(self, plan: _Plan) -> pd.DataFrame:
        """The scores as scores.parquet of a folder holds them."""
        s = plan.settings
        return self.scores.reset_index().assign(
            filter=[run.label for run in plan.runs],
            system=s.system,
            **{f"parameter_{k}": v for k, v in sorted(s.parameters.items())},
            gap=s.gap,
            members=[run.members for run in plan.runs],
            seed=s.seed,
        )


def _kept(output: Path, plans: list[_Plan]) -> list[Kept]:
    """The folder of each seed: the output itself where there is one, else one within it. Raises
    FileFault where one holds other runs, or the output those of a call of the other kind.
    """
    from masf.atomic import FileFault
    from masf.cli.kept import ELSEWHERE, Kept

    others, what = "seed~*", "folders of seeds"
    if len(plans) > 1:
        others, what = "[!.]*.nc", "runs of one seed"
    if any(output.glob(others)):
        raise FileFault(output, f"holds {what} already", ELSEWHERE)

    return [
        Kept.checked(
            output if len(plans) == 1 else output / f"seed~{plan.settings.seed}",
            plan.settings,
            plan.spin_up_cycles,
            several=len({run.members for run in plan.runs}) > 1,
        )
        for plan in plans
    ]


def _ran(
    plan: _Plan, truths: dict[int, xr.Dataset], priors: list[Path | None], device: str
) -> tuple[_Outcome, dict[tuple[str, int], xr.Dataset]]:
    """Runs the filters of a plan on its truths, by ensemble size, each with its prior: what they
    found, and their estimates by the keys of the runs.
    """
    from masf import api
    from masf.files.cost import mean_model_runs
    from masf.files.estimate import SPIN_UP

    estimates, seconds, model_runs = {}, [], []
    for run, prior in zip(plan.runs, priors, strict=True):
        estimate, trajectory = api.run(
            truths[run.members], run.name, run.parameters, prior=prior, device=device
        )
        estimates[run.key] = estimate.assign_attrs({SPIN_UP: plan.spin_up_cycles})
        finished = trajectory.wall_seconds[: trajectory.diverged_at]
        seconds.append(float(finished.mean()) if len(finished) else 0.0)
        model_runs.append(mean_model_runs(trajectory.model_runs))
    named = {f"{label}, N {members}": data for (label, members), data in estimates.items()}
    first = next(iter(truths.values()))  # ensemble sizes share truth and measurements
    scores = api.score(named, spin_up_cycles=plan.spin_up_cycles, truth=first)
    return _Outcome(scores, seconds, model_runs), estimates


def _table(
    plan: _Plan, outcomes: list[_Outcome], *, of_setting: bool
) -> tuple[list[str], list[list[str]]]:
    """The table of what was run, one row a filter: its scores, or their means over seeds."""
    import numpy as np

    from masf.report.words import runs_in_words
    from masf.scores.fields import FLOW_SCORES
    from masf.scores.run import SCORES, SHOWN
    from masf.systems.registry import system_class

    shown = [*SHOWN, *(FLOW_SCORES if system_class(plan.settings.system).flow else ())]
    one_seed = len(outcomes) == 1
    rows = []
    for i, run in enumerate(plan.runs):
        found = [outcome.scores.iloc[i] for outcome in outcomes]
        lost = sum(bool(row["lost"]) for row in found)
        diverged = sum(bool(row["diverged"]) for row in found)
        counts = [f"{n} {how}" for n, how in ((diverged, "diverged"), (lost, "lost track")) if n]
        of_these = f" ({', '.join(counts)})" if counts else ""
        seconds = float(np.mean([outcome.seconds[i] for outcome in outcomes]))
        model_runs = float(np.mean([outcome.model_runs[i] for outcome in outcomes]))
        if one_seed:
            scores = ["diverged" if diverged else f"{found[0][key]:.4g}" for key in shown]
        else:
            counted = [row for row in found if not row["lost"] and not row["diverged"]]
            scores = [_mean([row[key] for row in counted]) for key in shown]
        rows.append([
            f"{run.label} (lost track)" if one_seed and lost else run.label,
            *([str(run.members)] if of_setting else []),
            *([] if one_seed else [f"{len(found)}{of_these}"]),
            *scores,
            f"{seconds:.2g}",
            runs_in_words(model_runs),
            *([_number(run.published)] if of_setting else []),
        ])  # fmt: skip
    heads = [
        "FILTER", *(["N"] if of_setting else []), *([] if one_seed else ["SEEDS"]),
        *(SCORES[key] for key in shown), "s / cycle", "model runs",
        *(["published analysis RMSE"] if of_setting else []),
    ]  # fmt: skip
    return heads, rows


def _mean(values: list[float]) -> str:
    """The mean of scores over seeds, with their standard deviation; "none" where none counts."""
    import numpy as np

    if not values:
        return "none"
    mean = f"{np.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.2g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


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
        seed=options["seed"],
        **{key: chosen[key] for key in ("gap", "cycles", "members", "initial_spread")},
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
            f"--{said[0].replace('_', '-')} is said by --setting {name}: leave it out, or leave "
            "the setting out"
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
        "initial_spread": usual.initial_spread,
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


def _cell_in_words(plan: _Plan, seeds: tuple[int, ...]) -> str:
    settings = plan.settings
    parameters, observation = (
        ", ".join(f"{k} {v}" for k, v in d.items())
        for d in (settings.parameters, settings.observation)
    )
    sizes = ", ".join(str(n) for n in sorted({run.members for run in plan.runs}))
    return (
        f"{settings.system} ({parameters}); measured: {observation}; gap {settings.gap}, "
        f"{sizes} members, {settings.cycles} cycles, the first {plan.spin_up_cycles} not scored, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    )


def _plot(
    path: Path,
    plan: _Plan,
    truths: dict[int, xr.Dataset],
    estimates: dict[tuple[str, int], xr.Dataset],
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
