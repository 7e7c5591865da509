"""Stage plot: the figures of the config, in PDF and PNG, sized for a page of 7 inches.

The kinds of figures are in masf.study.figures, how they are drawn in masf.report.figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from masf.atomic import replacing
from masf.report.figures.kinds import DRAWINGS
from masf.report.figures.look import STYLE
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
        raise ConfigFault(
            f"figure {name!r}: choose one of "
            f"{', '.join(study.config.figures) or 'none in this config'}"
        )
    definition = study.config.figures[name]
    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        pictures = DRAWINGS[definition.kind](study, definition, scores)
        if definition.moves:
            _save_animation(pictures, outputs)
            return
        for figure in pictures:
            for output in outputs:
                _save(figure, output)
            plt.close(figure)


def _save(figure: Figure, output: Path) -> None:
    # No date in a PDF and no version in a PNG: the same data give the same file.
    metadata: dict[str, object] = (
        {"CreationDate": None} if output.suffix == ".pdf" else {"Software": None}
    )
    with replacing(output) as temporary:
        figure.savefig(temporary, format=output.suffix.removeprefix("."), metadata=metadata)


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
            first, *others = pictures
            kind = output.suffix.removeprefix(".")
            first.save(
                temporary,
                format=kind,
                save_all=True,
                append_images=others,
                duration=FRAME_MILLISECONDS,
                loop=0,
            )
