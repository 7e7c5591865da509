"""Stage train-prior: one network that denoises the forecast ensembles of one system and
observation, for all seeds and gaps.

The training ensembles come from the filter's own cycle, run on truths of a seed stream apart from
those of tuning and test: first with the Gaussian denoiser, then, in further rounds, with the
network trained so far, because what a filter meets depends on how good it is. Each ensemble carries
extra members that take no part in its mean and covariance. The network learns to denoise those and
the truth, as it will have to denoise states that the ensemble does not contain.

A world whose truth is nowhere near its members, or whose members overflow, has lost track; it
begins anew, and its ensemble of that cycle is left out.

Where the measurement is not linear, all of this is of the states with what is measured of them
(masf.diffusion.linear_state), and the network answers for both.

With ``passes`` the network learns to denoise what the last pass of filter masf meets: ensembles
that have taken in all parts of the measurement but one, with the model run again after each. Each
part is drawn anew, as a measurement of its own with so much more noise, because the truth is then a
draw from what the ensemble stands for. It would be none with one measurement taken in by parts, of
which it fits the whole.

Where the observation says that a share of its measurements is ``missing``, each training ensemble
lacks some of its own, and the network is told which by its features. A prior that was trained with
all of them serves cycles with holes as well: its Gaussian part and its process are those of what
there is, and only the network's correction is one that it learned under other conditions. It is
used where it denoises members better than the Gaussian part alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from masf.arrays import Stream, centred, on_device, overflows, resolve_device
from masf.diffusion.denoisers.learned import Climate, LearnedDenoiser
from masf.diffusion.denoisers.prior import Prior, make_network
from masf.diffusion.denoisers.select import GaussianFit
from masf.diffusion.denoisers.training import fit, loss, zero_loss
from masf.diffusion.linear_state import LinearState, linear_state, state_shape
from masf.diffusion.past import moved_in_the_past
from masf.diffusion.prior_settings import PriorSettings
from masf.diffusion.process import ForwardProcess, time_grid
from masf.diffusion.samplers import coupled
from masf.ensembles.inflation import inflate
from masf.files.checkpoint import Checkpoint
from masf.files.provenance import train_prior_version
from masf.files.records import prior_record
from masf.files.trained_prior import save
from masf.observations.base import Observation, ObservationSettings
from masf.observations.bases import Basis
from masf.progress import progress_bar
from masf.stages.border import on_tensors
from masf.systems.base import System
from masf.systems.registry import make_system, system_class
from masf.systems.requirements import typical_state

log = logging.getLogger(__name__)

LOST = 6.0
"""A truth so many standard deviations from the members' mean, root mean square over components, is
of a world that lost track: it begins anew, with members around it.
"""

HELD_OUT_SHARE = 1 / 6
"""Share of the training worlds kept for validation."""


def train_prior_to_file(
    output: Path,
    *,
    system: str,
    parameters: dict,
    observation: ObservationSettings | Mapping[str, Any],
    settings: PriorSettings,
    seed: int,
    device: str,
    built: tuple[System, Observation] | None = None,
) -> None:
    """Writes prior.safetensors. A training that was killed goes on from its checkpoint beside the
    file (masf.files.checkpoint), and ends as it would have without.

    Args:
        output: the file.
        system: the name of the system.
        parameters: of the system.
        observation: what is measured.
        settings: of the training.
        seed: fixes simulation and training.
        device: where to compute: "auto", "cpu" or "cuda".
        built: the system and the observation, where one of them is a user's own: the training is on
            this system at its full size.

    Raises:
        ValueError: for settings that do not fit the system, or a training that gives no finite
            network.
    """
    torch_device = resolve_device(device, needs_torch=True)
    assert torch_device is not None
    checkpoint = None
    if built is None:  # of a user's own system nothing says whether it is still the same
        identity = training_identity(system, parameters, observation, settings, seed, torch_device)
        checkpoint = Checkpoint(output.with_name(f"{output.name}.checkpoint"), identity)
    prior = train(
        system, parameters, observation, settings, seed=seed, device=torch_device, built=built,
        checkpoint=checkpoint,
    )  # fmt: skip
    save(prior, output)
    if checkpoint is not None:
        checkpoint.remove()


def training_identity(
    system: str,
    parameters: Mapping[str, Any],
    observation: ObservationSettings | Mapping[str, Any],
    settings: PriorSettings,
    seed: int,
    device: str,
) -> str:
    """What a checkpoint must have been made of for a training to go on from it and end as it would
    have: all that it depends on, in JSON.
    """
    written = observation.written() if isinstance(observation, ObservationSettings) else observation
    return json.dumps(
        {
            "system": system,
            "parameters": dict(parameters),
            "observation": dict(written),
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "device": device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "code": train_prior_version(system),
        },
        sort_keys=True,
        default=str,
    )


def train(
    system_name: str,
    system_parameters: dict,
    observation_settings: ObservationSettings | Mapping[str, Any],
    settings: PriorSettings,
    *,
    seed: int,
    device: str,
    built: tuple[System, Observation] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Prior:
    """Trains a prior; see the module's docstring. Deterministic for a given seed, device and number
    of threads, and whether or not it goes on from a ``checkpoint``.
    """
    if isinstance(observation_settings, ObservationSettings) and built is None:
        ring = system_class(system_name).translation_invariant
        parameters = settings.training_parameters(system_parameters, observation_settings, ring)
        system = make_system(system_name, parameters)
        observation = observation_settings.build(system.dimension, system.grid)
        missing = observation_settings.missing
    else:
        assert built is not None
        system, observation = built
        missing = float(observation.settings.get("missing", 0.0))
        start = typical_state(system, Stream(seed, "border"))[None]
        system, observation = on_tensors(system, observation, np.repeat(start, 2, 0), device)
    stream = Stream(seed, "train-prior")
    torch.manual_seed(stream.numpy.integers(2**31))
    network = make_network(settings, system, state_shape(system, observation)).to(device)
    worlds = Worlds(system, observation, settings, stream, device, missing)
    gathered: list[tuple[Tensor, Tensor]] = []
    for round_ in range(settings.rounds):
        pairs = worlds.denoising_pairs(network if round_ else None)
        gathered.append(pairs)
        features, targets = (torch.cat(x) for x in zip(*gathered, strict=True))
        resumed = None
        if checkpoint is not None:
            done = checkpoint.rounds[round_ : round_ + 1]
            resumed = done[0] if done else checkpoint.current
        end = fit(
            network, features, targets, steps=settings.steps, batch=settings.batch,
            learning_rate=settings.learning_rate, stream=stream, progress=True, resumed=resumed,
            keep=None if checkpoint is None else checkpoint.keep,
        )  # fmt: skip
        if checkpoint is not None and len(checkpoint.rounds) == round_:
            checkpoint.end_round(end)
        trained, untrained = loss(network, *worlds.held_out), zero_loss(worlds.held_out[1])
        if not math.isfinite(trained):
            raise ValueError(
                f"training of the prior for {system_name} gave no finite network: lower "
                "learning_rate or inflation"
            )
        log.info(
            "round %d: held-out denoising loss %.4f (Gaussian %.4f)", round_ + 1, trained, untrained
        )
    record = prior_record(
        system_name, system_parameters, observation_settings, settings,
        seed=seed, held_out_loss=trained, held_out_loss_gaussian=untrained, of_masf=built is None,
        device=device, threads=torch.get_num_threads(),
    )  # fmt: skip
    return Prior(network, worlds.climate, settings, record)


class Worlds:
    """Truths with their ensembles, cycled side by side to gather forecast ensembles."""

    def __init__(
        self,
        system: System,
        observation: Observation,
        settings: PriorSettings,
        stream: Stream,
        device: str,
        missing: float,
    ) -> None:
        self.system, self.settings, self.stream, self.device = system, settings, stream, device
        self.missing = missing
        self.observation = observation
        self.state = linear_state(system, observation)
        self.times = time_grid(settings.sampler_steps)
        self.climate, self._starts, states = self._sample_climate()
        self.family = self.state.family(settings, self._starts, states)
        self.held_out: tuple[Tensor, Tensor]
        if max(settings.passes) > 1:
            taper = self.state.pair_taper(settings.passes_radius, self._starts)
            self.joint_fit = GaussianFit("localized", taper)

    def _sample_climate(self) -> tuple[Climate, Tensor, Tensor]:
        """The climate, from one state of each of many trajectories over time; states to start from;
        and the states (n, d) that the climate was taken from.
        """
        x = on_device(
            np.stack(
                [typical_state(self.system, self.stream) for _ in range(self.settings.worlds)]
            ),
            self.device,
        )
        samples = []
        for i in range(self.settings.climate_steps):
            x = self.system.step(x, self.stream)
            if i % 10 == 0:
                samples.append(x)
        kept = torch.cat(samples)
        states = kept.double()
        # Of fields too: the same numbers for all components, so that they are in proportion.
        alike = self.system.translation_invariant or self.system.flow
        parts = [states] if alike else [self.state.of(states)]
        if alike and not self.observation.linear:
            parts.append(self.observation.apply(states))
        axes = (0, 1) if alike else (0,)
        mean = torch.cat([part.mean(dim=axes).reshape(-1) for part in parts])
        std = torch.cat([part.std(dim=axes).reshape(-1) for part in parts])
        std[std == 0] = 1.0  # where nothing is measured
        return Climate(mean.cpu().numpy(), std.cpu().numpy()), x, kept

    def denoising_pairs(self, network: nn.Module | None) -> tuple[Tensor, Tensor]:
        """One round of cycles; the training pairs. The held-out worlds' pairs become
        ``held_out``.
        """
        s, d = self.settings, self.system.dimension
        gaps = [s.gaps[i % len(s.gaps)] for i in range(s.worlds)]
        # The last worlds, which take the gaps in turn as the others do; the same in every round.
        held_out = range(s.worlds - max(1, round(HELD_OUT_SHARE * s.worlds)), s.worlds)
        pairs: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
        progress = progress_bar(total=s.worlds * s.cycles, desc="simulate", unit="cycle")
        for gap in sorted(set(gaps)):
            chosen = [i for i in range(s.worlds) if gaps[i] == gap]
            # One row a member: the truth, the members, and the extra members that the statistics do
            # not see.
            count = 1 + s.rows
            drawn = self.system.perturbations(len(chosen) * count, self._starts, self.stream)
            states = self._starts[chosen, None] + s.initial_spread * drawn.reshape(
                len(chosen), count, d
            )
            for cycle in range(s.cycles):
                past, states = states, self.system.advance(states, gap, self.stream)
                passes = s.passes[cycle % len(s.passes)]
                for _ in range(passes - 1):
                    past = torch.stack([
                        self._moved(past[row], states[row], passes, self._members(world))
                        for row, world in enumerate(chosen)
                    ])  # fmt: skip
                    states = self.system.advance(past, gap, self.stream)
                for row, world in enumerate(chosen):
                    progress.update()
                    members = self._members(world)
                    if self._lost(states[row], members):
                        states[row] = self._around(states[row, :1].where(
                            torch.isfinite(states[row, :1]), self._starts[world]
                        ), count)  # fmt: skip
                        continue
                    measured = self._measured()
                    joint = measured.of(states[row])
                    denoiser = self._denoiser(
                        joint[1 : 1 + members], measured.basis, network, passes
                    )
                    if cycle >= s.spin_up_cycles:
                        pairs[world in held_out].append(self._pairs(denoiser, joint, members))
                    states[row] = self._analyse(denoiser, measured, joint, passes)
        progress.close()
        self.held_out = _joined(pairs[True])
        return _joined(pairs[False])

    def _members(self, world: int) -> int:
        """The number of members of a world: which of its rows statistics are taken of."""
        counts, gaps = self.settings.member_counts, len(self.settings.gaps)
        return counts[world // gaps % len(counts)]  # worlds of the same gap take them in turn

    def _lost(self, states: Tensor, members: int) -> bool:
        """Whether the first row, the truth, is nowhere near what so many members stand for: such an
        ensemble would teach the network to expect what no ensemble knows of.
        """
        mean, anomalies = centred(states[1 : 1 + members])
        spread = anomalies.square().mean(dim=0).sqrt()
        off = ((states[0] - mean) / spread.clamp(min=torch.finfo(spread.dtype).tiny)).square()
        # Neither is so of NaN.
        return not bool(off.mean() < LOST**2) or overflows(states)

    def _around(self, truth: Tensor, count: int) -> Tensor:
        """Rows (count, d) of a world that begins anew: the truth (1, d), and members around it."""
        drawn = self.system.perturbations(count, truth[0], self.stream)
        drawn[0] = 0
        # As the truth is at the start, the members' centre is off by the spread that they have.
        shift = self.system.perturbations(1, truth[0], self.stream)
        moved = truth + self.settings.initial_spread * (drawn + shift)
        return torch.cat([truth, moved[1:]])

    def _measured(self) -> LinearState:
        """What is measured in a cycle: of the observation, what is not missing."""
        rows: np.ndarray = np.arange(0)
        if not self.missing:
            return self.state
        while len(rows) == 0:  # a cycle without measurements has no denoiser
            rows = np.flatnonzero(self.stream.numpy.random(self.observation.size) >= self.missing)
        return self.state.only(self.observation.only(rows))

    def _denoiser(
        self, ensemble: Tensor, basis: Basis, network: nn.Module | None, passes: int
    ) -> LearnedDenoiser:
        process = ForwardProcess.for_ensemble(basis, ensemble, temperature=passes)
        return LearnedDenoiser(
            self.family(process, ensemble), network or _Zero(), self.climate, ensemble, self.system,
            self.state.shape,
        )  # fmt: skip

    def _pairs(
        self, denoiser: LearnedDenoiser, states: Tensor, members: int
    ) -> tuple[Tensor, Tensor]:
        """Noised copies of the truth and of extra members, each at times of their own."""
        s = self.settings
        out = []
        for t in 1 - (1 - s.earliest_time) * self.stream.numpy.random(s.times_per_ensemble):
            others = len(states) - 1 - members
            extra = self.stream.numpy.integers(others, size=s.states_per_time - 1) + 1 + members
            out.append(
                denoiser.denoising_pairs(states[np.append(0, extra)], [float(t)], self.stream)
            )
        return _joined(out)

    def _part(self, observation: Observation, truth: Tensor, passes: int) -> Tensor:
        """One of so many parts of a measurement (m,), drawn for itself."""
        noise = observation.noise.draw((), truth, self.stream)
        return observation.apply(truth) + math.sqrt(passes) * noise

    def _moved(self, past: Tensor, states: Tensor, passes: int, members: int) -> Tensor:
        """Rows (1 + members and extra ones, d) of the past, moved by one part of a measurement of
        their forecasts ``states``, the truth left as it is.
        """
        measured = self._measured()
        y = self._part(measured.observation, states[0], passes)
        moved = moved_in_the_past(
            measured, self.joint_fit, past[1:], states[1:], y, self.stream,
            share=1 / passes, known=members,
        )  # fmt: skip
        return torch.cat([past[:1], self.system.project(moved)])

    def _analyse(
        self, denoiser: LearnedDenoiser, measured: LinearState, joint: Tensor, passes: int
    ) -> Tensor:
        """The rows of ``joint``, of states with what is measured of them, as analysed states."""
        truth = measured.plain(joint[:1])
        y = self._part(measured.observation, truth[0], passes)
        process = denoiser.gaussian.process
        plain = denoiser.gaussian if isinstance(denoiser.network, _Zero) else denoiser
        members = coupled(process, plain, y, joint[1:], self.times, self.stream)
        analysis = inflate(measured.plain(members), self.settings.inflation)
        return torch.cat([truth, self.system.project(analysis)])


class _Zero(nn.Module):
    """A network of zeros."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features[..., 0, :])


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, targets = zip(*pairs, strict=True)
    return torch.cat(features), torch.cat(targets)
