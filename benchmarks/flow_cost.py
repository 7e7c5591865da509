"""Processor seconds of one analysis of masf on the Kolmogorov flow against the size of its grid:
sampling, and fine-tuning.

    OMP_NUM_THREADS=1 python benchmarks/flow_cost.py --size 64 --size 128 --size 256

The U-Net is that of benchmarks/kolmogorov.yaml, untrained, for what it costs does not depend on its
weights. Sampling is the coupled sampler with three localisation radii, N 20; fine-tuning draws its
noised members and trains on 8 of them a step.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from masf.cli.options import use_threads

ROOT = Path(__file__).resolve().parent.parent


@click.command(help=__doc__)
@click.option("--size", "sizes", multiple=True, type=int, default=[64, 128], show_default=True)
@click.option("--steps", default=4, show_default=True, help="Reverse steps of the sampler.")
@click.option("--finetune-steps", default=40, show_default=True)
@click.option("--members", default=20, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    sizes: tuple[int, ...], steps: int, finetune_steps: int, members: int, threads: int
) -> None:
    """Runs the measurement; see the module's docstring."""
    use_threads(threads)
    import numpy as np
    import torch

    from masf.arrays import Stream
    from masf.diffusion.denoisers.learned import Climate, LearnedDenoiser
    from masf.diffusion.denoisers.prior import make_network
    from masf.diffusion.denoisers.training import fit
    from masf.diffusion.linear_state import linear_state
    from masf.diffusion.process import ForwardProcess, time_grid
    from masf.diffusion.samplers import coupled
    from masf.observations.settings import observation_settings
    from masf.stages.cycle import peak_memory_mib
    from masf.study.load import load_study
    from masf.systems.registry import make_system

    settings = load_study(ROOT / "benchmarks" / "kolmogorov.yaml").config.priors["kolmogorov"]
    for size in sizes:
        system, stream = make_system("kolmogorov", {"size": size}), Stream(0, "flow cost")
        observation = observation_settings({"operator": "grid", "stride": 10, "noise": 0.1}).build(
            system.dimension, system.grid
        )
        state, ensemble = (
            linear_state(system, observation),
            system.perturbations(members, torch.zeros(1), stream),
        )
        y = observation.apply(system.perturbations(1, ensemble, stream))[0]
        family = state.family(settings, ensemble)
        times = time_grid(steps)

        network, climate = make_network(settings, system), Climate(np.zeros(1), np.ones(1))
        seconds = []
        for _ in range(2):
            start = time.process_time()
            process = ForwardProcess.for_ensemble(state.basis, ensemble)
            learned = LearnedDenoiser(family(process, ensemble), network, climate, ensemble, system)
            coupled(process, learned, y, ensemble, times, stream)
            seconds.append(time.process_time() - start)
        start = time.process_time()
        pairs = learned.denoising_pairs(ensemble, times[1:], stream)
        fit(
            learned.network,
            *pairs,
            steps=finetune_steps,
            batch=settings.batch,
            learning_rate=5e-4,
            stream=stream,
        )
        tuning = time.process_time() - start
        click.echo(
            f"{size} x {size}: sampling in {steps} steps {min(seconds):.2f} s, fine-tuning by "
            f"{finetune_steps} steps "
            f"{tuning:.1f} s, peak memory {peak_memory_mib():.0f} MiB"
        )


if __name__ == "__main__":
    main()
