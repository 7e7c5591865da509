"""The stages of a study, and what is done around one: each command reads and writes the files named
on it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from masf.cli.options import (
    EXISTING,
    OUTPUT,
    OUTPUT_FOLDER,
    ConfigContent,
    GapSpec,
    JsonMapping,
    YamlMapping,
    device_option,
    study_option,
    threads_option,
    use_device,
    use_threads,
)


@click.command()
@click.option(
    "--config",
    "content",
    required=True,
    type=ConfigContent(),
    help="A config file, or its content as JSON.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder that a relative filters_directory is looked up in.",
)
@click.option("-o", "--output", type=OUTPUT, help="study.json; without it, only check.")
def study(content: str, root: Path | None, output: Path | None) -> None:
    """Check a config, and write it out in full."""
    from masf.atomic import FileFault, nearest_folder, replacing
    from masf.study.checks import doubts
    from masf.study.earlier import earlier_doubts
    from masf.study.load import load_study, study_in
    from masf.study.messages import ConfigFault

    if content.lstrip().startswith("{"):
        checked = study_in(JsonMapping().convert(content, None, None), root=root)
    else:
        checked = load_study(Path(content), root)
    try:
        nearest_folder(checked.results)
    except FileFault as fault:  # whether it may be written is for where the study runs
        raise ConfigFault(f"config: results = {checked.config.results!r}: {fault}") from None
    for doubt in [*doubts(checked), *earlier_doubts(checked)]:
        logging.warning("%s", doubt)
    logging.info("%d cells, %d filters", len(checked.cells), len(checked.all_filters))
    if output is not None:
        with replacing(output) as temporary:
            temporary.write_text(checked.to_json() + "\n", encoding="utf-8")


@click.command()
@click.option("--system", required=True, help="A system, such as lorenz96.")
@click.option(
    "--parameters",
    required=True,
    type=JsonMapping(),
    help="Its parameters, such as '{\"dt\": 0.01}'.",
)
@click.option(
    "--observation", required=True, type=JsonMapping(), help="The observation, as in the config."
)
@click.option(
    "--gap",
    required=True,
    type=GapSpec(),
    help="Model steps between two measurements, or a pattern of them that repeats: 5-10-20.",
)
@click.option("--cycles", required=True, type=click.IntRange(1), help="Measurements.")
@click.option("--members", required=True, type=click.IntRange(2), help="Ensemble size.")
@click.option(
    "--initial-spread",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Initial standard deviation.",
)
@click.option(
    "--seed",
    "seeds",
    required=True,
    multiple=True,
    type=click.IntRange(0),
    help="Fixes truth, noise and initial ensemble; may be repeated, each with an output.",
)
@click.option(
    "--model",
    type=JsonMapping(),
    help="What filters forecast with, where it is not what makes the truth: "
    '\'{"system": ..., "parameters": {...}}\'.',
)
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    type=OUTPUT,
    help="truth.nc; one for each seed.",
)
def simulate(seeds: tuple[int, ...], outputs: tuple[Path, ...], **settings: Any) -> None:
    """Simulate truth, measurements and initial ensemble."""
    _require_one_for_each("--seed", seeds, "--output", outputs)
    use_threads(1)
    from masf.files.cell import CellSettings
    from masf.stages.simulate import simulate_to_file

    for seed, output in zip(seeds, outputs, strict=True):
        simulate_to_file(CellSettings(**settings, seed=seed), output)


def _require_one_for_each(
    name: str, things: tuple[Any, ...], others_name: str, others: tuple[Any, ...]
) -> None:
    """Raises UsageError unless two repeated options are given as often as each other."""
    if len(things) != len(others):
        raise click.UsageError(
            f"{others_name} is given {len(others)} times, and {name} {len(things)}: give one for "
            "each, in the same order"
        )


@click.command("train-prior")
@click.option("--system", required=True, help="A system, such as lorenz96.")
@click.option("--parameters", required=True, type=JsonMapping(), help="Its parameters.")
@click.option(
    "--observation", required=True, type=JsonMapping(), help="The observation, as in the config."
)
@click.option(
    "--settings",
    required=True,
    type=JsonMapping(),
    help="Training, as in the config's section priors.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Fixes simulation and training.",
)
@click.option(
    "--shipped",
    is_flag=True,
    help="Train nothing: take the prior shipped with masf that these settings and this seed made.",
)
@device_option
@threads_option
@click.option("-o", "--output", required=True, type=OUTPUT, help="prior.safetensors")
def train_prior(
    system: str,
    parameters: dict,
    observation: dict,
    settings: dict,
    seed: int,
    shipped: bool,
    device: str,
    threads: int,
    output: Path,
) -> None:
    """Train the network of a prior, once for all seeds and gaps."""
    use_threads(threads)
    use_device(device)
    from masf.diffusion.prior_settings import PriorSettings
    from masf.study.messages import validated, validated_observation

    of_observation = validated_observation(observation, "--observation: operator")
    of_training = validated(PriorSettings, settings, "--settings")
    if shipped:
        from masf.files.shipped_priors import copy_as_trained

        copy_as_trained(output, system, parameters, of_observation, of_training, seed)
        return
    # Late, for settings that are out of range to be refused without torch.
    from masf.stages.train_prior import train_prior_to_file

    train_prior_to_file(
        output,
        system=system,
        parameters=parameters,
        observation=of_observation,
        settings=of_training,
        seed=seed,
        device=device,
    )


@click.command()
@click.option("--filter", "name", required=True, help="What tables call the filter.")
@click.option("--module", help="Its module in masf/filters; its name without this.")
@click.option(
    "--command",
    help="Instead of a module, what runs a filter that is not ours; see docs/adding-a-filter.md.",
)
@click.option(
    "--parameters",
    default="{}",
    show_default=True,
    type=JsonMapping(),
    help="Its parameters; the first trial.",
)
@click.option(
    "--search",
    required=True,
    type=JsonMapping(),
    help="What is tried of each, as in the filter's file.",
)
@click.option(
    "--pinned",
    default="{}",
    show_default=True,
    type=JsonMapping(),
    help="Parameters that override them in every trial; recorded beside what is found.",
)
@click.option(
    "--situation",
    required=True,
    type=JsonMapping(),
    help="What to call it: system, observation, gap and so on.",
)
@click.option(
    "--trials",
    required=True,
    type=click.IntRange(1),
    help="How many, the first and those in the journal included.",
)
@click.option("--score", default="rmse", show_default=True, help="What is made small.")
@click.option(
    "--spin-up-cycles",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="First cycles not scored.",
)
@click.option(
    "--truth",
    "truths",
    required=True,
    multiple=True,
    type=EXISTING,
    help="truth.nc; one for each tuning seed.",
)
@click.option("--prior", type=EXISTING, help="prior.safetensors, for filters that use one.")
@click.option(
    "--storage",
    required=True,
    type=OUTPUT,
    help="{filter}.journal: finished trials, from which it goes on.",
)
@device_option
@threads_option
@click.option("-o", "--output", required=True, type=OUTPUT, help="{filter}.json")
def tune(
    truths: tuple[Path, ...],
    search: dict,
    device: str,
    threads: int,
    output: Path,
    **options: Any,
) -> None:
    """Find one filter's best parameters on tuning seeds."""
    use_threads(threads)
    use_device(device)
    from pydantic import TypeAdapter

    from masf.stages.tune import tune_to_file
    from masf.study.search import Choice

    choices = TypeAdapter(dict[str, Choice]).validate_python(search)
    tune_to_file(list(truths), output, search=choices, device=device, threads=threads, **options)


@click.command()
@click.option("--filter", "name", required=True, help="What tables call the filter.")
@click.option("--module", help="Its module in masf/filters; its name without this.")
@click.option(
    "--command",
    help="Instead of a module, what runs a filter that is not ours; see docs/adding-a-filter.md.",
)
@click.option(
    "--parameters",
    default="{}",
    show_default=True,
    type=JsonMapping(),
    help="Parameters of the filter.",
)
@click.option(
    "--tuned", type=EXISTING, help="{filter}.json of stage tune, whose choice overrides them."
)
@click.option(
    "--pinned",
    default="{}",
    show_default=True,
    type=JsonMapping(),
    help="Parameters that override both.",
)
@click.option(
    "--truth",
    "truths",
    required=True,
    multiple=True,
    type=EXISTING,
    help="truth.nc; may be repeated, each with an output, for one run after another.",
)
@click.option("--prior", type=EXISTING, help="prior.safetensors, for filters that use one.")
@click.option(
    "--saved-members",
    default=3,
    show_default=True,
    type=click.IntRange(0),
    help="Analysis members to keep.",
)
@click.option(
    "--saved-steps",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="Keep means and spreads at every so many model steps and at all analyses; 0 keeps those "
    "of analyses alone.",
)
@click.option(
    "--covariance",
    default=False,
    show_default=True,
    type=bool,
    help="Whether to keep each analysis's covariance.",
)
@device_option
@threads_option
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    type=OUTPUT,
    help="{filter}.nc; one for each truth.",
)
@click.option(
    "--cost",
    "costs",
    multiple=True,
    type=OUTPUT,
    help="{filter}.cost.json: seconds of each cycle, memory; one for each truth, or none.",
)
def assimilate(
    truths: tuple[Path, ...],
    outputs: tuple[Path, ...],
    costs: tuple[Path, ...],
    command: str | None,
    module: str | None,
    prior: Path | None,
    device: str,
    threads: int,
    **options: Any,
) -> None:
    """Run one filter on a truth's measurements."""
    _require_one_for_each("--truth", truths, "--output", outputs)
    if costs:
        _require_one_for_each("--truth", truths, "--cost", costs)
    if command is not None and (module is not None or prior is not None):
        raise click.UsageError(
            "--command runs a filter that is not ours: it takes neither --module nor --prior"
        )
    use_threads(threads)
    use_device(device)
    from masf.stages.assimilate import assimilate_to_file

    for truth, output, cost in zip(truths, outputs, costs or [None] * len(truths), strict=True):
        assimilate_to_file(
            truth,
            output,
            cost=cost,
            command=command,
            module=module,
            prior=prior,
            device=device,
            threads=threads,
            **options,
        )


@click.command()
@study_option
@click.option(
    "--scores", required=True, type=OUTPUT, help="scores.parquet: one row a cell and filter."
)
@click.option(
    "--costs", required=True, type=OUTPUT, help="costs.parquet: seconds and memory of each."
)
@click.option(
    "--tables",
    required=True,
    type=OUTPUT_FOLDER,
    help="Folder of the tables.",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go on where results are missing, and count them as such in the tables.",
)
def aggregate(study: Path, scores: Path, costs: Path, tables: Path, allow_missing: bool) -> None:
    """Gather all results into scores and tables."""
    use_threads(1)
    from masf.stages.aggregate import aggregate as run
    from masf.study.load import load_study

    checked = load_study(study)
    missing = run(checked, scores=scores, costs=costs, tables=tables, allow_missing=allow_missing)
    if missing:
        logging.warning("%d runs are missing", missing)


def _listed(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in text.split(",")]


@click.command()
@click.argument("figure")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of finished results, wherever it lies now; instead of --study and --scores.",
)
@click.option(
    "--study",
    type=EXISTING,
    help="The config: a YAML file, or the study.json of a workflow's results.",
)
@click.option("--scores", type=EXISTING, help="scores.parquet")
@click.option(
    "-o",
    "--output",
    multiple=True,
    type=OUTPUT,
    help="A file to write, by its end .pdf, .png, .svg, .pgf, .csv (what is plotted), or .gif of "
    "an animation; may be repeated.",
)
@click.option(
    "--format",
    "formats",
    metavar="LIST",
    help="Instead of --output: formats, such as pdf,svg,csv, of files FIGURE.FORMAT.",
)
@click.option(
    "--folder",
    default=Path(),
    type=OUTPUT_FOLDER,
    help="Where --format writes; the current folder without it.",
)
@click.option(
    "--style",
    type=YamlMapping(),
    default={},
    help="What replaces keys of the figure's style, see config/README.md: YAML such as "
    "'{width: single, labels: {letkf: LETKF (ours)}}', or @FILE.",
)
@click.option(
    "--filters",
    metavar="LIST",
    help="The filters that are shown, such as masf,letkf; those of the config without it.",
)
def plot(
    figure: str,
    results: Path | None,
    study: Path | None,
    scores: Path | None,
    output: tuple[Path, ...],
    formats: str | None,
    folder: Path,
    style: dict[str, Any],
    filters: str | None,
) -> None:
    """Draw FIGURE, by its name in the config."""
    if (results is None) == (study is None or scores is None):
        raise click.UsageError("give --results, or --study and --scores")
    if (formats is None) == (not output):
        raise click.UsageError("give --output or --format")
    use_threads(1)
    from masf.stages.plot import draw
    from masf.study import paths
    from masf.study.load import FigureChange, load_results, load_study

    change = FigureChange(figure, style, None if filters is None else _listed(filters))
    if results is not None:
        checked, scores = load_results(results, figure=change), results / paths.SCORES
    else:
        assert study is not None
        assert scores is not None
        checked = load_study(study, figure=change)
    endings = [] if formats is None else _listed(formats)
    files = [*output, *(folder / f"{figure}.{ending}" for ending in endings)]
    for path in draw(checked, figure, scores, files):
        logging.info("%s", path)


@click.command()
@study_option
@click.option("--scores", required=True, type=EXISTING, help="scores.parquet")
@click.option("--costs", required=True, type=EXISTING, help="costs.parquet")
@click.option(
    "--figures",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the figures.",
)
@click.option(
    "--tables",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables.",
)
@click.option("-o", "--output", required=True, type=OUTPUT, help="index.html")
def page(study: Path, scores: Path, costs: Path, figures: Path, tables: Path, output: Path) -> None:
    """Write the page of a study: who wins where, and all scores."""
    use_threads(1)
    from masf.stages.page import write_page
    from masf.study.load import load_study

    write_page(load_study(study), scores, costs, figures, tables, output)


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    help="Folder of the tables, figures and page; RESULTS/preview without it.",
)
def preview(results: Path, output: Path | None) -> None:
    """Write tables, figures and page of what is there.

    RESULTS is the folder of a study that is running, or was stopped. Runs that are missing are
    counted as such. Nothing else in RESULTS changes.
    """
    use_threads(1)
    from masf.atomic import require_writable
    from masf.stages.preview import write_preview
    from masf.study import paths
    from masf.study.load import load_results

    folder = results / "preview" if output is None else output
    if folder.resolve() == results.resolve():
        raise click.UsageError(
            f"--output {folder}: would replace the study's own tables, figures and page: name "
            "another folder"
        )
    study = load_results(results)
    require_writable(folder)
    missing = write_preview(study, folder)
    logging.info("%s: %d runs are missing", folder / paths.PAGE, missing)


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--working-directory",
    "working",
    default=Path(),
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the workflow was started; the current folder without it.",
)
def status(results: Path, working: Path) -> None:
    """Say what of a study is done, runs, failed and is left.

    RESULTS is the folder of a study's results. Only files are read, so the workflow may run
    anywhere. Of jobs that failed, their logs are named; `masf preview` shows what is there.
    What is done may have been made by a config or by code that has changed since: `snakemake -n`
    with the study's config says what would run anew.
    """
    from masf.cli.output import print_table
    from masf.study import paths
    from masf.study.load import load_results
    from masf.study.status import State, counts, cpu_seconds_left
    from masf.study.status import status as status_of

    jobs = status_of(load_results(results), working)
    by_stage = counts(jobs)
    total = {state: sum(of_stage[state] for _, of_stage in by_stage) for state in State}
    print_table(
        ["STAGE", *State],
        [
            [stage, *(str(of_stage[state]) for state in State)]
            for stage, of_stage in [*by_stage, ("all", total)]
        ],
        always_headed=True,
    )
    for job in jobs:
        if job.state is State.FAILED:
            click.echo(f"failed: {job.log}")
    if total[State.DONE] < len(jobs):
        minutes = cpu_seconds_left(jobs) / 60
        click.echo(f"left: about {minutes:.0f} CPU minutes; so far: masf preview {results}")
    else:
        click.echo(f"done: open {results / paths.PAGE}")


@click.command("tuned-settings")
@click.argument("results", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    help="Folder of tuned values, such as config/tuned: they are written into its files.",
)
@click.option(
    "--when",
    multiple=True,
    metavar="KEY",
    help="Values are for situations with the same KEY, such as observation, too, though it does "
    "not vary in the study; may be repeated.",
)
def tuned_settings(results: Path, output: Path | None, when: tuple[str, ...]) -> None:
    """Write what tuning found into the files of tuned values.

    RESULTS is the folder of a study with a section tuning. Without --output, what would be written
    is printed, and refused as if it were to go into the study's own folder of tuned values. The
    values are for situations of the same system, and of the same value of all that varies in the
    study. In a file that is there already, what was found takes the place of settings with the same
    conditions, unless those were found in another situation; the others stay. What the study pinned
    goes along, because it was in force.
    """
    from masf.files.tuned import read_tuned
    from masf.study import paths
    from masf.study.load import tuned_folder, update_tuned_values, updated_tuned_values
    from masf.study.tuned_values import from_search, to_yaml

    files = sorted(results.glob(paths.glob(paths.TUNED)))
    if not files:
        raise ValueError(
            f"{results}: holds no tuning/*.json; run a study with a section tuning first"
        )
    found = [read_tuned(path) for path in files]
    for path, tuned in zip(files, found, strict=True):
        if tuned.all_diverged:
            logging.warning("%s: every trial diverged, so nothing is taken from it", path)
    values = from_search(found, when)
    if output is None:
        if (folder := tuned_folder(results)) is not None:
            updated_tuned_values(folder, values)  # refuses what --output would refuse
        for name, of_filter in values.items():
            click.echo(f"# {name}\n{to_yaml(of_filter)}")
        return
    for path in update_tuned_values(output, values):
        logging.info("%s: %d settings found", path, len(values[path.stem].settings))


@click.command()
@click.option(
    "--config", default="config/config.yaml", show_default=True, type=EXISTING, help="The study."
)
@click.option(
    "--gpu/--no-gpu", default=None, help="Count as if the config said gpu: true, or false."
)
@click.option(
    "--measured",
    type=EXISTING,
    help="Measured costs, as benchmarks/measured_costs.py writes them; masf's own without this.",
)
def plan(config: Path, gpu: bool | None, measured: Path | None) -> None:
    """Estimate the jobs, CPU and GPU hours that are left.

    To be called in the repository's root, as the workflow itself.
    """
    from masf.study.costs import MEASURED, Measured
    from masf.study.load import load_study
    from masf.study.plan import expected, left, report, with_gpu

    checked, costs = load_study(config), Measured.read(measured or MEASURED)
    if gpu is not None:
        checked = with_gpu(checked, gpu)
    click.echo(report(expected(checked, left(checked, config), costs), costs))


@click.command()
@click.option(
    "-o",
    "--output",
    required=True,
    type=OUTPUT_FOLDER,
    help="Folder of the schemas.",
)
def schema(output: Path) -> None:
    """Write the JSON schemas of the config, for editors."""
    from masf.atomic import replacing
    from masf.study.load import json_schemas

    for name, content in json_schemas().items():
        with replacing(output / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
