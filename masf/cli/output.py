"""Tables on standard output: aligned for people, and tab-separated where a program reads; lists
then have no heading.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def print_table(
    heading: Sequence[str], rows: Sequence[Sequence[str]], *, always_headed: bool = False
) -> None:
    """Prints rows of text."""
    if not sys.stdout.isatty():
        for row in [heading, *rows] if always_headed else rows:
            click.echo("\t".join(row))
        return
    from shutil import get_terminal_size

    from tabulate import tabulate

    # The last column takes what the others leave.
    taken = sum(2 + max(len(row[i]) for row in (heading, *rows)) for i in range(len(heading) - 1))
    widths = [None] * (len(heading) - 1) + [max(get_terminal_size().columns - taken, 20)]
    click.echo(
        tabulate(rows, heading, tablefmt="simple", maxcolwidths=widths, disable_numparse=True)
    )
