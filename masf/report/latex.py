"""Tables in LaTeX: filters by an axis of an experiment, for a paper, and long tables of everything.

Each file says in its first line which packages it needs.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from masf.scores.comparison import BEST, INDISTINGUISHABLE

BY_AXIS = r"""% Packages: booktabs, graphicx. In a document of one column, table* is as table.
"""
LONG = r"""% Packages: booktabs, longtable
{\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"""
NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
"""Makes what follows as wide as the page where it would be wider."""


def long_table(
    cells: pd.DataFrame,
    verdicts: pd.DataFrame,
    note: str,
    label: str,
    column_format: str | None = None,
) -> str:
    """A table that goes on over pages, small enough for a page's width.

    Args:
        cells: the text of its cells.
        verdicts: of the same shape: what is BEST is in bold, INDISTINGUISHABLE has a dagger.
        note: the caption.
        label: what the document refers to it by.
        column_format: of the columns; as wide as their text without it.
    """
    latex = (
        _styled(cells, verdicts)
        .hide(axis="index")
        .to_latex(
            environment="longtable",
            hrules=True,
            caption=_escaped(note),
            label=label,
            column_format=column_format or "l" * len(cells.columns),
        )
    )
    latex = latex.replace(rf"\caption[]{{{_escaped(note)}}}", r"\caption[]{(continued)}")
    return f"{LONG}\n{_signs(latex)}}}\n"


def by_axis(points: pd.DataFrame, axis: str, note: str, label: str) -> str:
    """A table with a row a filter, in blocks where the experiment varies more than ``axis``, and a
    column a value of that.

    Args:
        points: one row a filter and point, in the order wanted: the columns that make a point,
            "filter", the cell's "text" and its "verdict".
        axis: the column whose values stand side by side.
        note: the caption.
        label: what the document refers to it by.
    """
    index = [c for c in points if c not in {axis, "text", "verdict"}]
    cells, verdicts = (
        points.pivot_table(
            index=index, columns=axis, values=values, aggfunc="first", sort=False, observed=True
        ).fillna("" if values == "verdict" else "–")
        for values in ("text", "verdict")
    )
    columns = len(index) + len(cells.columns)
    latex = _styled(cells, verdicts).to_latex(
        environment="table*",
        position="t",
        position_float="centering",
        hrules=True,
        caption=_escaped(note),
        label=label,
        column_format="l" * columns,
        multirow_align="naive",
    )
    latex = latex.replace(r"\begin{tabular}", f"{NO_WIDER}\n\\begin{{tabular}}")
    return BY_AXIS + _signs(latex.replace(r"\end{tabular}", "\\end{tabular}}"))


def _styled(cells: pd.DataFrame, verdicts: pd.DataFrame) -> pd.io.formats.style.Styler:
    daggers = cells.where(verdicts != INDISTINGUISHABLE, cells + " †")
    style = daggers.style.format(escape="latex")
    for axis in ("index", "columns"):
        style = style.format_index(escape="latex", axis=axis)
    return style.apply(lambda _: np.where(verdicts == BEST, "textbf: --rwrap", ""), axis=None)


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text)


def _signs(latex: str) -> str:
    return latex.replace("±", r"$\pm$").replace("†", r"$^\dagger$").replace("–", "--")
