"""The sources of what a study uses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import flow_study, small_study

from masf.cli import commands
from masf.filters.registry import filter_names
from masf.report.citations import SYSTEMS, bibtex, references, sources
from masf.study.filter_files import FilterDefinition
from masf.study.load import read_mapping
from masf.systems.registry import system_names

ROOT = Path(__file__).parent.parent


def test_every_entry_is_whole_and_what_files_cite_is_there() -> None:
    for key, entry in references().items():
        assert entry.count("{") == entry.count("}"), key
        for field in ("author", "title") + (() if key == "masf" else ("year",)):
            assert f"  {field} = {{" in entry, (key, field)
    text = (ROOT / "masf" / "report" / "references.bib").read_text(encoding="utf-8")
    assert text.count("@") == len(references()) - 1
    assert set(system_names()) >= SYSTEMS.keys()
    used = {key for keys in SYSTEMS.values() for key in keys}
    for path in ROOT.glob("config/filters/*.yaml"):
        cited = FilterDefinition.model_validate(read_mapping(path)).cite
        assert set(cited) <= references().keys(), path
        used |= set(cited)
    others = {"masf", "molder2021", "akiba2019", "gneiting2007", "wang2004ssim"}
    assert used | others == references().keys()


@pytest.mark.parametrize(
    "name", ["masf", "ensf", "sf", "ssls", "letkf", "ienks", "particle", "local_pf"]
)
def test_filters_of_the_papers_cite_them(name: str) -> None:
    assert name in filter_names()
    definition = read_mapping(ROOT / "config" / "filters" / f"{name}.yaml")
    assert FilterDefinition.model_validate(definition).cite


def test_sources_are_those_of_what_a_study_runs(tmp_path: Path) -> None:
    found = sources(small_study(tmp_path))
    assert found["filter EnKF"] == ("burgers1998",)
    assert found["system lorenz63"] == ("lorenz1963",)
    assert not any("SSIM" in what or "No assimilation" in what for what in found)
    assert "score SSIM of vorticity" in sources(flow_study(tmp_path))
    definitions = {"mine": {"filter": "enkf", "label": "Mine"}}
    experiment = {
        "title": "Mine", "system": "lorenz63", "parameters": {"dt": 0.01},
        "observations": ["every_one"], "gaps": [2], "members": 4, "cycles": 3,
    }  # fmt: skip
    own = small_study(
        tmp_path,
        filters=["mine"],
        definitions=definitions,
        experiments={"one": experiment},
        figures={},
    )
    assert "% No source is known of: filter Mine." in bibtex(sources(own))


def test_each_entry_is_there_once_and_an_unknown_key_is_refused() -> None:
    text = bibtex({"filter A": ("hunt2007",), "filter B": ("bishop2001", "hunt2007")})
    assert text.count("@article{hunt2007,") == text.count("@article{bishop2001,") == 1
    assert "% filter A, filter B\n@article{hunt2007," in text
    with pytest.raises(ValueError, match="no entry hunt2008"):
        bibtex({"filter A": ("hunt2008",)})


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="BibTeX is not there")
def test_bibtex_reads_every_entry(tmp_path: Path) -> None:
    (tmp_path / "all.bib").write_text(bibtex({k: (k,) for k in references()}), encoding="utf-8")
    (tmp_path / "all.aux").write_text(
        "\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all}\n", encoding="utf-8"
    )
    done = subprocess.run(  # noqa: S603
        [str(shutil.which("bibtex")), "all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout.lower()
    written = (tmp_path / "all.bbl").read_text(encoding="utf-8")
    assert written.count("\\bibitem") == len(references())


def test_command_prints_the_sources_of_a_config(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run: Callable[..., object] = commands.main
    run(["cite", "--config", "tests/config/tiny.yaml"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "@misc{yoon2026masf," in text
    assert "@article{burgers1998," in text
    assert "hunt2007" not in text
