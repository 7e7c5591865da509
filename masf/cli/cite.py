"""``masf cite``: the sources of what a study uses."""

from __future__ import annotations

from pathlib import Path

import click

from masf.cli.options import EXISTING


@click.command()
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of finished results, instead of a config.",
)
@click.option(
    "--config", default="config/config.yaml", show_default=True, type=EXISTING, help="The study."
)
def cite(results: Path | None, config: Path) -> None:
    """Print the BibTeX of what a study uses.

    Of its filters, systems, scores, tuning, and of the suite.

    Each entry says in a comment what it is for.
    """
    from masf.report.citations import bibtex, sources
    from masf.study.load import load_results, load_study

    study = load_study(config) if results is None else load_results(results)
    click.echo(bibtex(sources(study)), nl=False)
