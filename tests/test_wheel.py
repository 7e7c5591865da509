"""The wheel: it holds all that the package needs, and serves where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation of the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
    (wheel,) = folder.glob("masf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def masf(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installed command line, in a folder outside of the checkout."""
    script = (
        f"import masf.cli; assert masf.__file__.startswith({str(installed)!r}); masf.cli.main()"
    )
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> set[str]:
    found = (
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return {str(path) for path in found}


def test_wheel_holds_the_package_and_the_configs_that_it_reads(installed: Path) -> None:
    expected = files(ROOT / "masf") | {"config/run.yaml"}
    for folder in ("config/filters", "config/settings", "config/tuned"):
        expected |= {f"{folder}/{name}" for name in files(ROOT / folder)}
    assert files(installed / "masf") == expected
    (information,) = (path for path in installed.iterdir() if path.name != "masf")
    assert "masf = masf.cli:main" in (information / "entry_points.txt").read_text(encoding="utf-8")


def test_installed_masf_runs_a_filter_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = masf(
        installed,
        tmp_path,
        "run",
        "--system",
        "lorenz96",
        "--filter",
        "enkf",
        "--cycles",
        "4",
        "--gap",
        "20",
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["FILTER", "enkf"]
    assert list(tmp_path.iterdir()) == []


def test_installed_masf_says_what_it_needs_a_checkout_for(installed: Path, tmp_path: Path) -> None:
    for words in (["list", "experiments"], ["plan"]):
        done = masf(installed, tmp_path, *words)
        assert done.returncode == 1
        assert (
            "config/config.yaml: there is no such file; name a config, or work in a checkout"
            in done.stderr
        )
