"""Learning curves of the prior for Lorenz-96: the held-out denoising loss over the Gaussian
denoiser's, against steps, width, training worlds, members, and mixtures among its features
(``bandwidths``), each varied from the study's prior.

    python benchmarks/learning_curves.py --dimension 8 -o benchmarks/results/learning_curves_8.csv

Losses are those that training itself reports, on worlds that took no part in it. Each point is a
training of its own, from the same seed; those that the output has already are not done again.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import yaml

from masf.cli.options import use_threads

ROOT = Path(__file__).parent.parent
VARIED: list[dict[str, Any]] = [
    *({"steps": steps} for steps in (300, 1000, 3000, 10_000)),
    {"width": 8},
    {"worlds": 9},
    {"bandwidths": [0.25, 0.5]},
    {"members": 1000},
]
POINT = ["dimension", "steps", "width", "worlds", "members", "bandwidths"]


def settings_with(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of a prior with some of them at other values; the width is its network's."""
    others = {key: value for key, value in changes.items() if key != "width"}
    width = changes.get("width", base["network"]["width"])
    return base | {"network": base["network"] | {"width": width}} | others


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
    rows = pd.read_csv(output).to_dict("records") if output.exists() else []
    known = [[row[key] for key in POINT] for row in rows]
    for changes in tqdm(VARIED, desc="trainings"):
        settings = PriorSettings(**settings_with(base, changes))
        point = [
            dimension, settings.steps, settings.network.width, settings.worlds, settings.members,
            " ".join(map(str, settings.bandwidths)) or "none",
        ]  # fmt: skip
        if point in known:
            continue
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
                **dict(zip(POINT, point, strict=True)),
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
