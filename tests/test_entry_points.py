"""A package of one's own that brings a system, a filter and an observation by its entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PACKAGE = '''
"""What a package brings to masf."""

from typing import Literal

from pydantic import Field

from masf.filters.base import Filter, FilterParameters
from masf.observations.base import ObservationSettings
from masf.observations.mask import Mask
from masf.systems.base import System, SystemParameters


class Decay(System):
    """Exponential decay."""

    class Parameters(SystemParameters):
        rate: float = Field(0.5, gt=0, description="Rate.")

    shape = (4,)

    def step(self, x, stream):
        return x * (1 - self.parameters.rate * self.dt)

    def typical_state(self, stream):
        return [1.0, 2.0, 3.0, 4.0]


class HalfWay(Filter):
    """Half of the way to the measurement."""

    class Parameters(FilterParameters):
        share: float = Field(0.5, gt=0, le=1, description="Of the way.")

    def analyse(self, state, y):
        innovations = y - self.observation.apply(state)
        return state + self.parameters.share * self.observation.adjoint(innovations)


class EndsSettings(ObservationSettings):
    """The first and the last component."""

    operator: Literal["ends"] = Field(description="ends: the first and the last.")

    def build_linear(self, dimension, grid):
        return Mask(dimension, [0, dimension - 1], self.noise, self.written())
'''

POINTS = """
[masf.systems]
decay = brings:Decay
[masf.filters]
half_way = brings:HalfWay
[masf.observations]
ends = brings:EndsSettings
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a package is installed into, for the path of Python."""
    (tmp_path / "brings.py").write_text(PACKAGE, encoding="utf-8")
    info = tmp_path / "brings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brings\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    return tmp_path


def python(folder: Path, *words: str, fails: bool = False) -> str:
    """What Python prints with the package on its path; of one that shall fail, its errors."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(  # noqa: S603
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
        cwd=folder,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def masf(folder: Path, *words: str, fails: bool = False) -> str:
    command = "from masf.cli import main; main()"
    return python(folder, "-c", command, *words, fails=fails)


PROGRAM = """
import json, masf
system = masf.make_system("decay", dt=0.1)
observation = masf.make_observation(system, "ends", noise=0.1)
truth = masf.simulate(system, observation, gap=2, cycles=5, members=10)
truth.to_netcdf("truth.nc")
estimate = masf.assimilate(truth, "half_way", {"share": 0.4})
assert json.loads(estimate.attrs["filter_parameters"]) == {"share": 0.4}
assert estimate.attrs["model"] == "decay"
print(truth.attrs["code_version"], estimate.attrs["code_version"])
masf.check_system(system)
"""


def test_what_a_package_brings_is_found_by_name(folder: Path) -> None:
    versions = python(folder, "-c", PROGRAM).split()
    assert len(set(versions)) == 2
    assert "decay\tExponential decay." in masf(folder, "list", "systems")
    assert "half_way\tHalf of the way" in masf(folder, "list", "filters")
    assert masf(folder, "check", "half_way") == "HalfWay: keeps the contract\n"
    # The stages of a study, on files.
    words = ["--truth", "truth.nc", "--filter", "half_way", "--output", "half_way.nc"]
    masf(folder, "assimilate", *words, "--parameters", '{"share": 0.4}')
    assert (folder / "half_way.nc").is_file()
    # An edit of the package makes another version of the code.
    source = folder / "brings.py"
    source.write_text(PACKAGE.replace("1 - self", "1 - 1 * self"), encoding="utf-8")
    edited = python(folder, "-c", PROGRAM).split()
    assert not set(edited) & set(versions)
    # Without the package, its truth is that of somebody's own system.
    empty = folder / "empty"
    empty.mkdir()
    said = masf(
        empty, "assimilate", "--truth", "../truth.nc", *words[2:], "--parameters", "{}", fails=True
    )
    assert "unknown system 'decay'" in said


CONFIG = """
results: results
filters_directory: filters
seeds: {test: [0]}
filters: [half_way]
observations: {ends: {operator: ends, noise: 0.1}}
experiments:
  decay:
    title: Decay
    system: decay
    parameters: {dt: 0.1}
    observations: [ends]
    gaps: [2]
    members: 10
    cycles: 5
"""


def test_a_study_that_names_a_filter_of_a_package_says_which_file_it_needs(folder: Path) -> None:
    (folder / "filters").mkdir()
    (folder / "study.yaml").write_text(CONFIG, encoding="utf-8")
    said = masf(folder, "study", "--config", "study.yaml", fails=True)
    wanted = "write filters/half_way.yaml, for example `label: half_way`"
    assert f"filters = 'half_way': there is such a filter, but not its file: {wanted}" in said
    (folder / "filters" / "half_way.yaml").write_text("label: half_way\n", encoding="utf-8")
    masf(folder, "study", "--config", "study.yaml")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            "[masf.systems]\nlorenz96 = brings:Decay\n",
            "package brings brings system 'lorenz96', which masf has, too: rename one",
        ),
        (
            "[masf.systems]\ndecay = brings:Missing\n",
            "system 'decay' of package brings (brings:Missing) cannot be loaded: AttributeError",
        ),
        (
            "[masf.systems]\ndecay = brings:HalfWay\n",
            "system 'decay' of package brings (brings:HalfWay) is <class 'brings.HalfWay'>: "
            "expected a subclass of System",
        ),
        (
            "[masf.observations]\nother = brings:EndsSettings\n",
            "observation 'other', which a package brings, has the operator 'ends'",
        ),
    ],
)
def test_what_cannot_be_brought_names_the_package(folder: Path, points: str, said: str) -> None:
    (folder / "brings-1.0.dist-info" / "entry_points.txt").write_text(points, encoding="utf-8")
    error = python(folder, "-c", "import masf; masf.make_system('decay', dt=0.1)", fails=True)
    assert said in error.splitlines()[-1]
