"""Stage page: index.html, a study's result for people: the headline, the figures, and a table of
scores to sort and filter.

The page needs no network: DataTables is in it, and the figures are files beside it. It holds no
date: the same results give the same page.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from masf.atomic import replacing
from masf.files.provenance import software
from masf.report.captions import experiment_settings, figure_alt, figure_caption
from masf.report.headline import reason, sentences, verdicts
from masf.report.page import difference_in_words, interactive_table, parameters_in_use, score_rows
from masf.report.rows import read_rows
from masf.report.tables import MODEL_RUNS
from masf.report.words import LOST_TRACK
from masf.scores.comparison import LEAST_SEEDS
from masf.study import paths
from masf.study.study import Study


def write_page(
    study: Study,
    scores: Path,
    costs: Path,
    figures: Path,
    tables: Path,
    output: Path,
    *,
    not_drawn: Collection[str] = (),
) -> None:
    """Writes index.html.

    Args:
        study: the study.
        scores: scores.parquet.
        costs: costs.parquet.
        figures: the folder of the figures; the page refers to them.
        tables: the folder of the tables; the page links to them.
        output: the page.
        not_drawn: the names of figures that are not there, because their results are missing.

    Raises:
        FileFault: for scores or costs that cannot be read.
    """
    rows, cost_rows = (read_rows(path, "scores or costs") for path in (scores, costs))
    found = verdicts(study, rows)
    folder = output.parent

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    environment = Environment(
        loader=PackageLoader("masf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        study=study,
        sentences=sentences(study, rows),
        experiments=[
            (name, e, [v for v in found if v.experiment == name])
            for name, e in study.config.experiments.items()
        ],
        settings={name: experiment_settings(study, name) for name in study.config.experiments},
        difference=difference_in_words,
        figures=[
            {
                "title": definition.title,
                "png": link(figures / f"{name}.png"),
                "pdf": link(figures / f"{name}.pdf"),
                "alt": figure_alt(study, name),
                "caption": figure_caption(study, name),
            }
            for name, definition in study.figures.items()
            if name not in not_drawn
        ],
        not_drawn=[study.figures[name].title for name in not_drawn],
        reason=reason,
        scores=interactive_table(score_rows(study, rows, cost_rows)),
        model_runs=MODEL_RUNS,
        lost_track=LOST_TRACK,
        least_seeds=LEAST_SEEDS,
        scores_files=[link(scores), link(scores.with_suffix(".csv"))],
        tables=[
            (name, [(end, link(tables / f"{name}.{end}")) for end in ("md", "csv", "tex")])
            for name in study.tables
        ],
        parameters=parameters_in_use(study, rows),
        versions=software(),
        config=link(study.results / paths.STUDY),
    )
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
