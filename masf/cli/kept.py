"""The folder that ``masf run`` keeps its outputs in: of one truth, so that what another call adds
there can be compared with what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masf.study import paths

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from masf.files.cell import CellSettings

ELSEWHERE = "name another folder, or move that away"
OF_FOLDER = {"filter", "members", "seed", "lost"}
"""Columns of the scores of such a folder, among others."""


@dataclass(frozen=True)
class Kept:
    """A folder whose content, if there is any, is of the settings that will be run.

    Attributes:
        folder: the folder.
        several: whether several ensemble sizes are run, which names of files then say.
        before: the scores that are there; None where there are none.
    """

    folder: Path
    several: bool
    before: pd.DataFrame | None

    @classmethod
    def checked(
        cls, folder: Path, settings: CellSettings, spin_up_cycles: int, *, several: bool
    ) -> Kept:
        """The folder. Raises FileFault where it holds runs of other settings, of a study, or what
        cannot be read.
        """
        from masf.atomic import FileFault

        if (folder / paths.STUDY).is_file():
            raise FileFault(folder, "holds the results of a study", ELSEWHERE)
        for path in sorted(folder.glob("[!.]*.nc")):
            apart = _differences(path, settings, spin_up_cycles)
            if several or "+members~" in path.name:
                apart.pop("members", None)
            if apart:
                words = ", ".join(f"{key} {a} in place of {b}" for key, (a, b) in apart.items())
                raise FileFault(path, f"is of other settings: {words}", ELSEWHERE)
        return cls(folder, several, _scores(folder / paths.SCORES))

    def truth(self, members: int) -> Path:
        """The file of the truth with an ensemble of so many members."""
        return self.folder / (f"truth+members~{members}.nc" if self.several else "truth.nc")

    def require_same(self, truths: Mapping[int, xr.Dataset]) -> None:
        """Raises FileFault where a truth that is there is another one than that which its settings
        give now, as on another machine; by the ensemble size of each.
        """
        from masf.atomic import FileFault
        from masf.files.truth import digest, read_truth, truth_of

        for members, truth in truths.items():
            path = self.truth(members)
            if path.is_file() and digest(read_truth(path)) != digest(truth_of(truth)):
                fault = "is another truth than these settings give now, on this machine"
                raise FileFault(path, fault, ELSEWHERE)

    def save(
        self,
        truths: Mapping[int, xr.Dataset],
        estimates: Mapping[tuple[str, int], xr.Dataset],
        scores: pd.DataFrame,
    ) -> None:
        """Writes each truth, by its ensemble size, a file a filter, by its label and size, and the
        scores beside those that are there of other filters.
        """
        import pandas as pd

        from masf.atomic import replacing
        from masf.files.netcdf import write

        for members, truth in truths.items():
            write(self.truth(members), truth)
        for (label, members), estimate in estimates.items():
            name = f"{label}+members~{members}" if self.several else label
            name = name.replace(":", "+").replace("=", "~").replace("/", "_")
            write(self.folder / f"{name}.nc", estimate)
        if self.before is not None:
            keys = ["filter", "members"]
            again = pd.MultiIndex.from_frame(self.before[keys]).isin(list(estimates))
            scores = pd.concat([self.before[~again], scores], ignore_index=True)
        with replacing(self.folder / paths.SCORES) as temporary:
            scores.to_parquet(temporary, index=False)


def _differences(
    path: Path, settings: CellSettings, spin_up_cycles: int
) -> dict[str, tuple[Any, Any]]:
    """In what a file of masf's differs from settings: the values of both."""
    from masf.files.estimate import SPIN_UP
    from masf.files.netcdf import MAKER, open_netcdf
    from masf.study.situations import differences

    with open_netcdf(path, remedy=ELSEWHERE, missing=ELSEWHERE) as data:
        attributes = dict(data.attrs)
    if attributes.get("format") not in MAKER:
        return {}
    apart = differences(json.loads(attributes["settings"]), json.loads(settings.to_json()))
    left_out = attributes.get(SPIN_UP, spin_up_cycles)
    if left_out != spin_up_cycles:
        apart["spin_up_cycles"] = (left_out, spin_up_cycles)
    return apart


def _scores(path: Path) -> pd.DataFrame | None:
    """The scores in a folder; None where there are none. Raises FileFault where they are not those
    of ``masf run``.
    """
    from masf.atomic import FileFault
    from masf.report.rows import read_rows

    if not path.is_file():
        return None
    rows = read_rows(path, "scores")
    if "cell" in rows or not set(rows) >= OF_FOLDER:
        raise FileFault(path, "are not the scores of this version's masf run", ELSEWHERE)
    return rows
