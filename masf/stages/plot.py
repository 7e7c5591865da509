"""Stage plot: the figures of the config as PDF, PNG, SVG or PGF, and what they plot as CSV.

The kinds of figures are in masf.study.figures, how they are drawn in masf.report.figures.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from masf.atomic import replacing
from masf.report.figures.kinds import DATA, DRAWINGS
from masf.report.figures.look import rc_of, styled
from masf.study.figures.base import FigureSection
from masf.study.messages import ConfigFault
from masf.study.study import Study

ANIMATED = {".png", ".gif"}
ANIMATION_DPI, FRAME_MILLISECONDS = 140, 400
FORMATS = ("pdf", "png", "svg", "pgf", "csv", "gif")
"""What a figure may be written as, by the end of the file's name."""
LATEX = ("pdflatex", "lualatex", "xelatex")
"""Programs that measure the text of a PGF picture, the first that there is."""
NO_DATE: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
"""What is left out of each format, so that the same data give the same file."""


def draw(study: Study, name: str, scores: Path, outputs: Sequence[Path]) -> list[Path]:
    """Draws the figure ``name`` of the config into each of ``outputs``.

    Args:
        study: the study.
        name: of the figure.
        scores: scores.parquet.
        outputs: files whose names end as one of FORMATS. What a figure of several panels plots is
            written a panel, as ``figure4_a.csv``, ``figure4_b.csv``, ... for ``figure4.csv``.

    Returns:
        The files that were written.

    Raises:
        ConfigFault: if the config has no such figure, or it cannot be written so.
        FileFault: if the scores, or a result that the figure shows, cannot be read.
    """
    if name not in study.figures:
        raise ConfigFault(
            f"figure {name!r}: choose one of {', '.join(study.figures) or 'none in this config'}"
        )
    definition = study.figures[name]
    for output in outputs:
        if (fault := _misfit(definition, output)) is not None:
            raise ConfigFault(f"{output}: {fault}")
    pictured = [output for output in outputs if output.suffix != ".csv"]
    written = [
        path
        for output in outputs
        if output.suffix == ".csv"
        for path in _save_data(DATA[definition.kind](study, definition, scores), output)
    ]
    if not pictured:
        return written
    rc = rc_of(definition.style) | _of_formats(pictured)
    with sns.axes_style("ticks"), plt.rc_context(rc):
        of_style = styled(study, definition.style)
        pictures = DRAWINGS[definition.kind](of_style, definition, scores)
        if definition.moves:
            _save_animation(pictures, pictured)
            return [*pictured, *written]
        for figure in pictures:
            for output in pictured:
                _save(figure, output)
            plt.close(figure)
    return [*pictured, *written]


def _misfit(definition: FigureSection, output: Path) -> str | None:
    """Why a figure cannot be written as the end of a file's name says; None where it can."""
    suffix = output.suffix.removeprefix(".")
    if suffix not in FORMATS:
        return f"a figure cannot be written as {output.suffix!r}: choose {', '.join(FORMATS)}"
    if suffix == "gif" and not definition.moves:
        return f"figure {definition.kind!r} does not move: choose pdf, png, svg or pgf"
    if suffix == "csv" and definition.kind not in DATA:
        return (
            f"figure {definition.kind!r} shows states, which its results hold as netCDF; what is "
            f"plotted is written of {', '.join(DATA)}"
        )
    if suffix == "pgf" and not definition.of_lines:
        return f"figure {definition.kind!r} is made of pictures, not of lines: choose pdf or png"
    if suffix == "pgf" and _latex() is None:
        return (
            f"PGF needs one of {', '.join(LATEX)} to measure its text, and none is there: install "
            "a LaTeX, such as TeX Live, or choose pdf or svg"
        )
    return None


def _latex() -> str | None:
    return next((program for program in LATEX if shutil.which(program)), None)


def _of_formats(outputs: Iterable[Path]) -> dict[Any, Any]:
    """Matplotlib's settings for the formats of files."""
    settings: dict[Any, Any] = {"svg.hashsalt": "masf"}  # names in an SVG are random without it
    if any(output.suffix == ".pgf" for output in outputs):
        # The fonts are those of the document that takes the picture in.
        settings |= {"pgf.texsystem": _latex(), "pgf.rcfonts": False}
    return settings


def _save(figure: Figure, output: Path) -> None:
    suffix = output.suffix.removeprefix(".")
    metadata: dict[str, Any] = {"metadata": NO_DATE[suffix]} if suffix in NO_DATE else {}
    with replacing(output) as temporary:
        figure.savefig(temporary, format=suffix, **metadata)


def _save_data(panels: Sequence[pd.DataFrame], output: Path) -> list[Path]:
    """What each panel plots, as CSV; the files."""
    several = len(panels) > 1
    files = [
        output.with_stem(f"{output.stem}_{letter}") if several else output
        for letter, _ in zip(ascii_lowercase, panels, strict=False)
    ]
    for table, file in zip(panels, files, strict=True):
        with replacing(file) as temporary:
            # A missing value as pgfplots reads it.
            table.to_csv(temporary, index=False, na_rep="nan", float_format="%.7g")
    return files


def _save_animation(frames: Iterable[Figure], outputs: Sequence[Path]) -> None:
    """All pictures as an animated PNG or GIF; the last one in other formats."""
    pictures: list[Image.Image] = []
    for figure in frames:
        figure.savefig(drawn := BytesIO(), format="png", dpi=ANIMATION_DPI)
        pictures.append(Image.open(drawn).convert("RGB"))
        plt.close(figure)
    for output in outputs:
        if output.suffix not in ANIMATED:
            _save(figure, output)
            continue
        with replacing(output) as temporary:
            kind = output.suffix.removeprefix(".")
            # Who cannot show a PNG that moves shows a picture before the first: the last one, in
            # which there is most to see.
            before = [pictures[-1]] if kind == "png" else []
            first, *others = [*before, *pictures]
            first.save(
                temporary,
                format=kind,
                save_all=True,
                append_images=others,
                duration=FRAME_MILLISECONDS,
                loop=0,
                **({"default_image": True} if before else {}),
            )
