"""Learning curves of the prior for Lorenz-96: the held-out denoising loss over the Gaussian
denoiser's, against steps, width and training worlds, each varied from the study's prior.

    python benchmarks/learning_curves.py --dimension 8 -o benchmarks/results/learning_curves_8.csv

Losses are those that training itself reports, on worlds that took no part in it. Each point is a
training of its own, from the same seed.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import yaml

from masf.cli.options import use_threads

ROOT = Path(__file__).parent.parent
VARIED: dict[str, list[int]] = {
    "steps": [300, 1000, 3000, 10_000],
    "width": [8, 24],
    "worlds": [9, 36],
}


def settings_with(base: dict[str, Any], key: str, value: int) -> dict[str, Any]:
    """The settings of a prior with one of VARIED at another value."""
    if key == "width":
        return base | {"network": base["network"] | {"width": value}}
    return base | {key: value}


@click.command(help=__doc__)
@click.option("--dimension", default=8, show_default=True)
@click.option("--gap", "gaps", multiple=True, default=[20, 40, 50], show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(dimension: int, gaps: tuple[int, ...], threads: int, output: Path) -> None:
    """Trains; see the module's docstring."""
    use_threads(threads)
    import pandas as pd
    from tqdm import tqdm

    from masf.diffusion.prior_settings import PriorSettings
    from masf.files.prior import read_prior
    from masf.observations.settings import observation_settings
    from masf.stages.train_prior import train_prior_to_file

    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    base = config["priors"]["lorenz96"] | {"gaps": list(gaps)}
    points = {
        json.dumps(settings_with(base, key, value), sort_keys=True): (key, value)
        for key, values in VARIED.items()
        for value in values
    }  # the study's own settings are a point of each, and are trained once
    rows = []
    for text in tqdm(points, desc="trainings"):
        settings = PriorSettings(**json.loads(text))
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prior.safetensors"
            train_prior_to_file(
                path,
                system="lorenz96",
                parameters={"dt": 0.01, "dimension": dimension, "forcing": 8.0},
                observation=observation_settings({"operator": "identity", "noise": 1.0}),
                settings=settings,
                seed=7,
                device="cpu",
            )
            metadata, _ = read_prior(path, "np")
        loss, gaussian = (
            float(metadata[key]) for key in ("held_out_loss", "held_out_loss_gaussian")
        )
        rows.append(
            {
                "dimension": dimension,
                "steps": settings.steps,
                "width": settings.network.width,
                "worlds": settings.worlds,
                "loss": round(loss, 4),
                "gaussian": round(gaussian, 4),
                "ratio": round(loss / gaussian, 4),
                "seconds": round(time.perf_counter() - start),
            }
        )
        # After each, so that a run that is stopped has what it found.
        pd.DataFrame(rows).to_csv(output, index=False)
    click.echo(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
