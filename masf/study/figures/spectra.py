"""Energy spectra of a flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from masf.study.figures.base import FlowFigure

if TYPE_CHECKING:
    from masf.study.study import Study


class SpectraFigure(FlowFigure):
    """Energy spectra of a flow at one point of an experiment: of the truth, and of each filter's
    analyses.
    """

    kind: Literal["spectra"] = Field(description="spectra: energy against the wavenumber.")

    shows = (
        "Energy in shells of wavenumbers, of the truth (broad, grey), and of each filter's "
        "ensemble means (a) and single members "
        "(b); means over analyses and test seeds. A mean over uncertain members is smooth and "
        "has less energy than the truth "
        "where the members differ; the members themselves should have as much. Runs that "
        "diverged are left out, those that lost track are in."
    )

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        yield from super().faults_of_kind(study, key)
        own = study.config.experiments[self.experiment].saved_members
        if (study.config.saved_members if own is None else own) < 1:
            yield (
                f"{key}: spectra of members need saved_members of at least 1 in experiment "
                f"{self.experiment!r}"
            )
