"""The command line: first steps in memory, and every stage of a study as a subcommand on files.

Imports are made inside the commands, so that each loads only what it needs, and help loads nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import click

from masf import __version__
from masf.cli import check, cite, compare, list_, run, show, stages

SECTIONS = {
    "First steps": ("run", "list", "show", "check"),
    "Stages of a study, in order": (
        "study",
        "simulate",
        "train-prior",
        "tune",
        "assimilate",
        "aggregate",
        "plot",
        "page",
    ),
    "Around a study": ("plan", "status", "preview", "compare", "cite", "tuned-settings", "schema"),
}
"""Subcommands in the order of the help."""


class Sections(click.Group):
    """A group whose help lists its commands by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        listed = [name for section in SECTIONS.values() for name in section]
        return [*listed, *sorted(self.commands.keys() - set(listed))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = tuple(self.list_commands(ctx)[sum(map(len, SECTIONS.values())) :])
        widest = max(map(len, self.commands))
        for title, section in {**SECTIONS, "Others": others}.items():
            limit = formatter.width - 6 - widest
            rows = [
                (name.ljust(widest), self.commands[name].get_short_help_str(limit))
                for name in section
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def say(level: int) -> None:
    """Messages of this level and above go to standard error."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    logging.getLogger().setLevel(level)
    for talkative in ("matplotlib", "fontTools"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _verbosity(flag: str, name: str, level: int, text: str) -> click.Option:
    def callback(_: click.Context, __: click.Parameter, value: bool) -> None:
        if not value:
            return
        say(level)
        if level > logging.INFO:
            from masf.progress import SILENT

            os.environ[SILENT] = "1"

    return click.Option(
        [flag, name], is_flag=True, expose_value=False, callback=callback, help=text
    )


def verbosity() -> list[click.Parameter]:
    """The options --verbose and --quiet, which stand before or after a subcommand."""
    return [
        _verbosity("-v", "--verbose", logging.DEBUG, "Say more."),
        _verbosity("-q", "--quiet", logging.WARNING, "Say nothing but warnings and errors."),
    ]


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\
    \b
    Examples:
      masf run                                          three filters on Lorenz-96, compared
      masf run --system lorenz63 --filter etkf --gap 25
      masf list filters                                 what there is
      masf list filters letkf                           its parameters
      make quick                                        a small study, to results/quick
      masf show results/quick/scores.parquet            what is in a file

    A study writes into the folder that its config names, such as results/quick: tables/, figures/,
    scores.parquet, and of each cell truth.nc and one file a filter. results/README.md describes
    them.
    """,
)
@click.version_option(__version__)
def commands() -> None:
    """Benchmark suite for score-based data assimilation.

    `masf run` tries filters on one system in memory. A study is run by Snakemake (`make quick`),
    which calls the stages; each can also be run by hand on the files that it leaves.
    """


commands.params += verbosity()
for _module in (run, list_, show, check, cite, compare, stages):
    for _command in vars(_module).values():
        if isinstance(_command, click.Command):
            _command.params += verbosity()
            commands.add_command(_command)


def main() -> None:
    """Runs the command line.

    Exit codes: 0; 1 for a fault of the input, with one clear message and no traceback; 2 for wrong
    usage; 130 if interrupted.
    """
    say(logging.INFO)
    try:
        commands.main(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_broken_pipe()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except Exception as error:
        message = _fault(error)
        if message is None:
            raise
        click.echo(f"masf: error: {message}", err=True)
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            logging.exception("traceback")
        sys.exit(1)


def _fault(error: Exception) -> str | None:
    """What to say of a fault of the input; None of any other error, which is ours."""
    from pydantic import ValidationError

    from masf.study.messages import faults_of

    if isinstance(error, ValidationError):
        return "; ".join(faults_of(error))
    return str(error) if isinstance(error, (ValueError, OSError)) else None


def _leave_broken_pipe() -> NoReturn:
    """Whoever read our output has gone, as ``head`` does: that is no error to speak of."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)  # as click does
