# Joins masf.study, which says what the rules run and ask for, to Snakemake.
import re
import sys
from functools import cache
from pathlib import Path

# The package sits beside the workflow; an installed one is used where the workflow is imported as a module.
sys.path.insert(0, str(Path(workflow.current_basedir) / ".." / ".."))

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from masf.atomic import FileFault, full_disk, require_writable
from masf.files.provenance import software
from masf.report.captions import (
    experiment_settings,
    figure_caption,
    figure_category,
    table_entry,
)
from masf.study import paths
from masf.study.checks import doubts
from masf.study.costs import share_of_group
from masf.study.earlier import earlier_doubts
from masf.study.jobs import (
    Jobs,
    file_options,
    missing_programs,
    observation_text,
    rules_by_seeds,
    tuned_files,
)
from masf.study.load import make_study, require_keys_once_in
from masf.study.messages import ConfigFault

ROOT = Path(str(workflow.current_basedir)).parent.parent
# Absolute, because an inherited rule would look beside its own file.
ENVIRONMENT = str(ROOT.resolve() / "environment.yml")

try:
    # Snakemake reads these files, and lets the last of two values of a key stand.
    for configfile in workflow.configfiles if workflow.is_main_process else []:
        require_keys_once_in(Path(configfile))
    STUDY = make_study(config, source="config", root=ROOT)
    require_writable(STUDY.results)
except ConfigFault as fault:
    raise WorkflowError(f"The config cannot be used.\n{fault}") from None
except FileFault as fault:
    raise WorkflowError(
        f"config: results = {STUDY.config.results!r}: {fault}"
    ) from None

if workflow.is_main_process:
    for doubt in [*doubts(STUDY), *earlier_doubts(STUDY)]:
        print(f"config: warning: {doubt}", file=sys.stderr)

for missing in missing_programs(STUDY):
    raise WorkflowError(missing)

if (
    STUDY.config.container is not None
    and DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method
):
    raise WorkflowError(
        f"config: container = {STUDY.config.container!r}: no job would run in it; say "
        "--software-deployment-method apptainer, or take the key out"
    )

JOBS = Jobs(STUDY)


wildcard_constraints:
    **paths.WILDCARDS,


def result(pattern):
    """A path below the results."""
    return paths.below(STUDY.config.results, pattern)


def of_seeds(pattern, seeds):
    """The same of the files of a job: one with the seed a wildcard, or those of all its seeds."""
    if seeds is None:
        return result(pattern)
    return [result(pattern.replace("{seed}", str(seed))) for seed in seeds]


def log_path(rule, seeds=None):
    return result(paths.log(rule, together=seeds is not None))


def benchmark_path(rule, seeds=None):
    return result(paths.benchmark(rule, together=seeds is not None))


def with_seeds(name, filter_name=None):
    """The rules that make truths, or a filter's estimates: of each its name, the seeds of its jobs,
    and a constraint of {system}, where a path begins, to situations with these seeds. Where each
    seed has a job, it is one rule, and its seeds are None.
    """
    if not STUDY.config.seeds.together:
        return [(name, None, paths.WILDCARDS["system"])]
    return [
        (
            called,
            seeds,
            f"(?=(?:{'|'.join(map(re.escape, points))})/){paths.WILDCARDS['system']}",
        )
        for called, seeds, points in rules_by_seeds(STUDY, name, filter_name)
    ]


def job(rule, wildcards):
    """What a rule's job runs and asks for where the wildcards stand for these."""
    return JOBS(rule, dict(wildcards))


def inputs(rule):
    """The files that a rule's job reads, by name: a function of wildcards, to be unpacked."""
    return lambda wildcards: job(rule, wildcards).inputs


@cache
def longest(rule_name):
    """Minutes that a job of the rule of this name may ask for, the limit in the profile, shared
    by the jobs of its group, if it has one; None without a limit.
    """
    limit = workflow.global_resources.get("runtime").value
    groups, components = (
        workflow.group_settings.overwrite_groups,
        workflow.group_settings.group_components,
    )
    group = groups.get(rule_name)
    if limit is None or group is None:
        return limit
    rules_of_group = sum(groups.get(rule.name) == group for rule in workflow.rules)
    return share_of_group(
        limit,
        jobs=rules_of_group * components.get(group, 1),
        side_by_side=workflow.global_resources.get("_cores").value or 1,
        stages=2,  # truths, and what filters make of them
    )


def asked(rule):
    """Memory and time of a rule's jobs; both grow with each retry, up to the profile's limits."""

    def request(wildcards, attempt, rulename):
        return job(rule, wildcards).request.attempt(attempt, longest(rulename))

    return {
        "mem_mb": lambda wildcards, attempt, rulename: request(
            wildcards, attempt, rulename
        ).mem_mb,
        "runtime": lambda wildcards, attempt, rulename: request(
            wildcards, attempt, rulename
        ).runtime,
    }


def options(option, name):
    """The words that hand a rule's input of this name to its command; none where it has none."""
    return lambda wildcards, input: file_options(option, input.get(name, []))


def written(option, outputs):
    """The words that name a job's outputs, one or several, to its command."""
    return file_options(option, [outputs] if isinstance(outputs, str) else outputs)


def alternatives(names):
    """A constraint of a wildcard to these names; to none, where there are none."""
    return "|".join(names) or "(?!)"


def in_report(table):
    """The CSV of a table, as an entry of the report."""
    entry = table_entry(STUDY, table)
    # One label, because with several the report fails where a combination has no entry.
    return report(
        result(paths.table(table, "csv")),
        caption=f"../report/{entry.caption}.rst",
        category=entry.category,
        labels={"table": f"{entry.title} ({table})"},
    )
