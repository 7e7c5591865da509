"""Tables, figures and the page of a study of which only some results are there."""

from __future__ import annotations

import logging
from pathlib import Path

from masf.stages.aggregate import aggregate
from masf.stages.page import write_page
from masf.stages.plot import draw
from masf.study import paths
from masf.study.study import Study


def write_preview(study: Study, folder: Path) -> int:
    """Writes scores, costs, tables, figures and the page of the results that are there; those that
    are missing are counted as such. The results stay as they are, so a workflow may be running.

    Args:
        study: the study.
        folder: where all is written, as a study's results are laid out (masf.study.paths).

    Returns:
        How many runs are missing.

    Raises:
        FileFault: for a result that is damaged.
        ConfigFault: if no run is there, or different versions of a filter's code made the results.
    """
    scores, costs = folder / paths.SCORES, folder / paths.COSTS
    tables, figures = folder / "tables", folder / "figures"
    missing = aggregate(study, scores=scores, costs=costs, tables=tables, allow_missing=True)
    not_drawn = []
    for name in study.figures:
        files = [folder / paths.figure(name, suffix) for suffix in paths.FIGURE_SUFFIXES]
        read = set(study.figure_files(name)) - {paths.COSTS}  # costs are made here
        absent = [path for path in read if not (study.results / path).is_file()]
        if absent:
            logging.info("figure %s: not drawn, as %d of its files are missing", name, len(absent))
            not_drawn.append(name)
            for path in files:
                path.unlink(missing_ok=True)  # of an earlier preview
            continue
        draw(study, name, scores, files)
    write_page(study, scores, costs, figures, tables, folder / paths.PAGE, not_drawn=not_drawn)
    return missing
