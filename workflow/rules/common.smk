# The study behind the rules: the checked config, its cells, path patterns, commands and resources.
import json
import shlex
import shutil
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

# The package sits beside the workflow; an installed one is used where the workflow is imported as a module.
sys.path.insert(0, str(Path(workflow.current_basedir) / ".." / ".."))

from snakemake.exceptions import WorkflowError

from masf.report.captions import experiment_settings, figure_caption, figure_category
from masf.programs import missing_program
from masf.study import paths
from masf.study.costs import (
    PLOT_REQUEST,
    aggregate_request,
    assimilate_request,
    simulate_request,
    train_prior_request,
    tune_request,
)
from masf.atomic import FileFault, require_writable
from masf.files.provenance import (
    assimilate_version,
    code_version,
    page_version,
    simulate_version,
    software,
    train_prior_version,
    tune_version,
)
from masf.study.search import plain
from masf.study.messages import ConfigFault
from masf.study.load import make_study

ROOT = Path(str(workflow.current_basedir)).parent.parent

try:
    STUDY = make_study(config, source="config", root=ROOT)
except ConfigFault as fault:
    raise WorkflowError(f"The config cannot be used.\n{fault}") from None

for name in STUDY.all_filters:
    if not (ROOT / "workflow" / "rules" / "filters" / f"{name}.smk").is_file():
        raise WorkflowError(
            f"filter {name!r} has no rule: add workflow/rules/filters/{name}.smk, as the other files there"
        )
    definition = STUDY.filters[name]
    if definition.command and (program := missing_program(definition.command)):
        remedy = definition.install or "install it, or leave the filter out"
        raise WorkflowError(
            f"filter {name!r} runs {program}, which is not there: {remedy}"
        )

RESULTS = STUDY.config.results.rstrip("/")
try:
    require_writable(Path(RESULTS))
except FileFault as fault:
    raise WorkflowError(f"config: results = {RESULTS!r}: {fault}") from None

# Absolute, because an inherited rule would look beside its own file.
ENVIRONMENT = str(ROOT.resolve() / "environment.yml")
LONGEST_OPTION = 2**15


wildcard_constraints:
    **paths.WILDCARDS,


def result(pattern):
    """A path below the results."""
    return paths.below(RESULTS, pattern)


def log_path(rule):
    return result(paths.log(rule))


def benchmark_path(rule):
    return result(paths.benchmark(rule))


def cell_of(wildcards):
    """The cell that the wildcards name; those of tuning seeds are cells too."""
    return STUDY.all_cells[paths.CELL.format_map(dict(wildcards))]


def point_of(wildcards):
    """The cells of the tuning seeds at the point that the wildcards name."""
    return STUDY.points[paths.POINT.format_map(dict(wildcards))]


def prior_of(wildcards):
    """The training of the prior that the wildcards name."""
    return STUDY.priors[paths.PRIOR.format_map(dict(wildcards))]


def gpus(count):
    """GPUs that a job asks for: none where the study uses none."""
    return count if STUDY.config.gpu else 0


def asked(request):
    """Memory and time of a job, from its ``Request``, a function of the wildcards; both double with each retry."""
    return {
        "mem_mb": lambda wildcards, attempt: request(wildcards).attempt(attempt).mem_mb,
        "runtime": lambda wildcards, attempt: request(wildcards)
        .attempt(attempt)
        .runtime,
    }


# Commands


def command(stage, options):
    """A masf command line, quoted for the shell; mappings become JSON, and what is None is left out."""
    words = ["masf", stage]
    for name, value in options.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


@cache
def json_of_observation(name):
    settings = STUDY.config.observations[name].model_dump(exclude_defaults=True)
    return json.dumps(settings, sort_keys=True)


def observation_json(wildcards):
    return json_of_observation(wildcards.observation)


def observation_input(wildcards):
    """The file of an observation that is too long for a command line, which may have 128 KiB; none for others."""
    if len(observation_json(wildcards)) <= LONGEST_OPTION:
        return []
    return result(paths.OBSERVATION.format_map(dict(wildcards)))


def observation_option(wildcards):
    """The observation itself, or the name of its file."""
    path = observation_input(wildcards)
    return f"@{path}" if path else observation_json(wildcards)


def simulate_command(wildcards):
    settings = asdict(cell_of(wildcards).settings)
    return command(
        "simulate", settings | {"observation": observation_option(wildcards)}
    )


def train_prior_command(wildcards):
    prior = prior_of(wildcards)
    return command(
        "train-prior",
        {
            "system": prior.system,
            "parameters": prior.parameters,
            "observation": observation_option(wildcards),
            "settings": prior.settings.model_dump(exclude_defaults=True),
            "seed": STUDY.config.seeds.training,
        },
    )


def runner(name):
    """The options that say what runs a filter."""
    external = STUDY.filter_command(name)
    return {
        "filter": name,
        "module": STUDY.filter_module(name) if external is None else None,
        "command": external,
    }


def assimilate_command(wildcards):
    name, cell = wildcards.filter, cell_of(wildcards)
    return command(
        "assimilate",
        {
            **runner(name),
            "parameters": STUDY.default_parameters(name, cell),
            "pinned": STUDY.config.pinned.get(name, {}),
            "saved_members": cell.saved_members,
            "covariance": cell.reference is not None or None,
        },
    )


def tune_command(wildcards):
    name, cell = wildcards.filter, point_of(wildcards)[0]
    return command(
        "tune",
        {
            **runner(name),
            "parameters": STUDY.filter_parameters(name, cell),
            "search": {
                key: plain(choice) for key, choice in STUDY.search(name, cell).items()
            },
            "situation": cell.situation,
            "trials": STUDY.config.tuning.trials,
            "score": STUDY.config.tuning.score,
            "spin_up_cycles": cell.spin_up_cycles,
        },
    )


# What the rules of filters inherit


def filter_code(version):
    """The code version of a stage for the filter that the wildcards name."""
    return lambda wildcards: version(
        STUDY.filter_module(wildcards.filter),
        wildcards.system,
        STUDY.filter_command(wildcards.filter),
    )


def prior_input(cell_at):
    """The pretrained prior, where a filter's parameters need one in the cell that the wildcards name."""

    def files(wildcards):
        cell = cell_at(wildcards)
        needed = STUDY.needs_prior(wildcards.filter, cell)
        return result(STUDY.prior(cell).path) if needed else []

    return files


def tuned_input(wildcards):
    """The tuned parameters, in the cells where a filter takes some."""
    path = STUDY.tuning_path(wildcards.filter, cell_of(wildcards))
    return [] if path is None else result(path)


def input_option(name):
    """The option that hands a command an input file, where there is one."""
    return lambda wildcards, input: (
        shlex.join([f"--{name}", str(input[name])]) if input.get(name) else ""
    )


def resources_of(wildcards):
    """The resources that a filter's file in config/filters asks for."""
    return STUDY.filters[wildcards.filter].resources


def wants_gpu(name):
    """Whether a filter computes on a GPU, where the study uses some."""
    return STUDY.filters[name].resources.gpu > 0


def alternatives(names):
    """A constraint of a wildcard to these names; to none, where there are none."""
    return "|".join(names) or "(?!)"


def gpus_of(wildcards):
    """GPUs that a filter's job asks for."""
    return gpus(resources_of(wildcards).gpu)


def device_of(wildcards):
    """Where a filter computes."""
    return "cuda" if gpus_of(wildcards) else "cpu"


def assimilate_asks(wildcards):
    """What a filter asks for in a cell: at least what its file in config/filters says."""
    return assimilate_request(STUDY, wildcards.filter, cell_of(wildcards))


def tune_asks(wildcards):
    """What tuning a filter at a point asks for."""
    return tune_request(STUDY, wildcards.filter, point_of(wildcards))


# Other functions of wildcards, inputs and outputs


def folder_of_tables(wildcards, output):
    return str(Path(output.tables[0]).parent)


TABLE_KINDS = {
    "": ("Scores", "scores"),
    "_paired": ("Paired comparison", "paired"),
    "_exactness": ("Exactness", "exactness"),
    "_cost": ("Cost", "cost"),
}
"""Category and caption in the report of the tables of an experiment, by the end of their names."""


def in_report(table):
    """The CSV of a table, as an entry of the report."""
    title, (category, caption) = "All points", ("Tuning", "tuning")
    for name, experiment in STUDY.config.experiments.items():
        kind = TABLE_KINDS.get(table.removeprefix(name))
        if table.startswith(name) and kind:
            title, (category, caption) = experiment.title, kind
    # One label, because with several the report fails where a combination has no entry.
    return report(
        result(paths.table(table, "csv")),
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"table": f"{title} ({table})"},
    )


def figure_of(wildcards):
    return STUDY.config.figures[wildcards.figure]


def figure_files(wildcards):
    """The files that a figure reads besides the scores."""
    return [result(path) for path in STUDY.figure_files(wildcards.figure)]


def say_if_disk_is_full():
    """The jobs' logs cannot say it: they are on that disk."""
    if Path(RESULTS).is_dir() and (free := shutil.disk_usage(RESULTS).free) < 2**20:
        print(
            f"The disk of {RESULTS} is full ({free >> 10} KiB free): make room there, and run the same command again.",
            file=sys.stderr,
        )
