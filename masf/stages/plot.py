"""Stage plot: the figures of the config, in PDF and PNG, sized for a page of 7 inches.

Each kind of figure has a module in masf.report.figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from masf.atomic import FileFault, replacing
from masf.report.figures.look import STYLE
from masf.report.figures.ranks import rank_histograms
from masf.report.figures.spectra import spectra
from masf.report.figures.sweep import sweep
from masf.report.figures.trajectories import trajectories
from masf.report.figures.vorticity import animation, vorticity
from masf.study.figures import AnimationFigure, RankFigure, SpectraFigure, SweepFigure, VorticityFigure
from masf.study.messages import ConfigFault
from masf.study.study import Study

ANIMATED = {".png", ".gif"}
ANIMATION_DPI, FRAME_MILLISECONDS = 140, 400


def draw(study: Study, name: str, scores: Path, outputs: Sequence[Path]) -> None:
    """Draws the figure ``name`` of the config into each of ``outputs``.

    Raises:
        ConfigFault: if the config has no such figure.
        FileFault: if the scores, or a result that the figure shows, cannot be read.
    """
    if name not in study.config.figures:
        raise ConfigFault(f"figure {name!r}: choose one of {', '.join(study.config.figures) or 'none in this config'}")
    definition = study.config.figures[name]
    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        if isinstance(definition, AnimationFigure):
            _save_animation(animation(study, definition), outputs)
            return
        if isinstance(definition, SweepFigure):
            figure = sweep(study, definition, _read_scores(scores))
        elif isinstance(definition, RankFigure):
            figure = rank_histograms(study, definition)
        elif isinstance(definition, VorticityFigure):
            figure = vorticity(study, definition)
        elif isinstance(definition, SpectraFigure):
            figure = spectra(study, definition)
        else:
            figure = trajectories(study, definition)
        for output in outputs:
            _save(figure, output)
        plt.close(figure)


def _save(figure: Figure, output: Path) -> None:
    # No date in a PDF and no version in a PNG: the same data give the same file.
    metadata: dict[str, object] = {"CreationDate": None} if output.suffix == ".pdf" else {"Software": None}
    with replacing(output) as temporary:
        figure.savefig(temporary, format=output.suffix.removeprefix("."), metadata=metadata)


def _save_animation(frames: Iterator[Figure], outputs: Sequence[Path]) -> None:
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
            first, *others = pictures
            kind = output.suffix.removeprefix(".")
            first.save(temporary, format=kind, save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0)


def _read_scores(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FileFault(path, f"cannot be read as scores ({error})", "run stage aggregate again") from error
