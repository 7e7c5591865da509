"""Settings of stage train-prior, apart from the stage itself so that the config is checked without
importing torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from masf.ensembles.localization import radius_misfits
from masf.observations.base import ObservationSettings
from masf.systems.base import System


class NetworkSettings(BaseModel):
    """Shape of the network that corrects the Gaussian denoiser."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["auto", "conv1d", "unet2d", "mlp"] = Field(
        "auto",
        description="conv1d: circular convolutions; unet2d: a U-Net of circular convolutions in "
        "two dimensions; mlp: fully "
        "connected; auto: conv1d where the system is a ring, unet2d where it is fields on a "
        "square.",
    )
    width: int = Field(
        32,
        ge=1,
        le=4096,
        description="Channels of conv1d, those of the first level of unet2d, or units of a "
        "layer of mlp.",
    )
    blocks: int = Field(
        3, ge=1, le=32, description="Residual blocks; for unet2d, of each level on each side."
    )
    kernel: int = Field(5, ge=1, le=31, description="Kernel length of conv1d and unet2d, odd.")
    levels: int = Field(
        3,
        ge=1,
        le=8,
        description="Levels of unet2d: each further one halves the grid and doubles the channels.",
    )

    @model_validator(mode="after")
    def _odd_kernel(self) -> NetworkSettings:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: expected an odd length")
        return self

    def resolved_kind(self, system: System | type[System]) -> Literal["conv1d", "unet2d", "mlp"]:
        """The kind, with ``auto`` decided."""
        if self.kind == "auto":
            return "unet2d" if system.flow else "conv1d" if system.translation_invariant else "mlp"
        return self.kind

    def fault(self, system: System) -> str | None:
        """Why the kind does not serve this system; None if it does."""
        kind = self.resolved_kind(system)
        if kind == "conv1d" and not system.translation_invariant:
            return "network kind 'conv1d' needs a translation-invariant system; use 'mlp'"
        if kind == "unet2d" and not system.flow:
            return "network kind 'unet2d' needs fields on a square grid; use 'conv1d' or 'mlp'"
        if kind == "unet2d" and system.shape[-1] % 2 ** (self.levels - 1):
            return (
                f"network kind 'unet2d' with levels {self.levels} needs a size that is a multiple "
                f"of {2 ** (self.levels - 1)}"
            )
        return None


Members = Annotated[int, Field(ge=2)]


class PriorSettings(BaseModel):
    """How a prior is trained: the simulated ensembles, the network, and the training."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    network: NetworkSettings = Field(
        default_factory=NetworkSettings, description="Shape of the network."
    )
    gaps: list[int] = Field(
        min_length=1,
        description="Measurement gaps, in steps, that the training cycles take in turn.",
    )
    worlds: int = Field(
        32, ge=2, description="Truths, each with an ensemble of its own, cycled side by side."
    )
    cycles: int = Field(40, ge=1, description="Cycles of each world in each round.")
    spin_up_cycles: int = Field(
        8, ge=0, description="Cycles of each world that give no training ensembles."
    )
    members: Members | list[Members] = Field(
        100,
        description="Members whose mean and covariance the Gaussian denoiser takes; of several "
        "numbers, the worlds take one in turn.",
    )
    extra_members: int = Field(
        28, ge=1, description="Further members, denoised in training but not in those statistics."
    )
    initial_spread: float = Field(
        1.0, gt=0, description="Standard deviation of the ensembles at the start."
    )
    localization_radii: list[Annotated[float, Field(gt=0)] | None] = Field(
        [6.0, 3.0, 16.0],
        min_length=1,
        description="Radii of the Gaussian denoisers: the network corrects the first and sees "
        "all; in the system's unit of length, as for filters; null tapers nothing.",
    )
    bandwidths: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [],
        description="The network also sees the answers of mixtures with a kernel of so many "
        "spreads at each member, as those of filter masf_mc, and chooses at each place and "
        "diffusion time between them, the Gaussian denoisers and a correction of its own.",
    )
    weight_radius: int | None = Field(2, ge=1, description="For bandwidths: as for filter masf_mc.")
    static_share: float = Field(
        0.0, ge=0, lt=1, description="Of the Gaussian denoisers: as for filter masf_gaussian."
    )
    static_members: int = Field(40, ge=2, description="As for filter masf_gaussian.")
    inflation: float = Field(1.02, ge=1.0, le=3.0, description="As for filter masf.")
    sampler_steps: int = Field(
        8, ge=1, description="Reverse steps of the analyses in the training cycles."
    )
    passes: list[Annotated[int, Field(ge=1, le=32)]] = Field(
        [1],
        min_length=1,
        description="Parts of the measurement, as for filter masf, that the training cycles take "
        "in turn; all but the last part are taken in by passes in the past.",
    )
    passes_radius: Annotated[float, Field(gt=0)] | None = Field(
        16.0, description="For passes above 1: as for filter masf."
    )
    earliest_time: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Diffusion times are drawn between this and 1; no sampler needs any before "
        "its first step.",
    )
    climate_steps: int = Field(
        500, ge=1, description="Steps over which the system's long-run mean and spread are taken."
    )
    training_dimension: int = Field(
        40,
        ge=10,
        description="Rings of conv1d are shortened to at most this many components (rounded up "
        "to the stride or block).",
    )
    rounds: int = Field(
        2,
        ge=1,
        le=10,
        description="Rounds of simulation and training; from the second on with the network.",
    )
    times_per_ensemble: int = Field(
        4, ge=1, description="Diffusion times drawn for each forecast ensemble."
    )
    states_per_time: int = Field(
        8, ge=1, description="States noised at each: the truth, the others extra members."
    )
    steps: int = Field(1500, ge=1, description="Training steps in each round.")
    batch: int = Field(128, ge=1, description="Noised states in a training step.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak learning rate of Adam.")

    @property
    def member_counts(self) -> list[int]:
        """The numbers of members that the worlds take in turn."""
        return self.members if isinstance(self.members, list) else [self.members]

    @property
    def rows(self) -> int:
        """States of a world besides its truth: the most members, and the extra ones."""
        return max(self.member_counts) + self.extra_members

    @property
    def answers(self) -> int:
        """Answers that the network weighs: those of Gaussians with other radii, and of mixtures;
        none without mixtures, where its correction is all.
        """
        return len(self.localization_radii) - 1 + len(self.bandwidths) if self.bandwidths else 0

    def fault(self, system: System) -> str | None:
        """Why these settings do not serve the system, their key first; None if they do."""
        if fault := self.network.fault(system):
            return f"network.kind = {self.network.kind!r}: {fault}"
        if any(radius is not None for radius in self.localization_radii) and system.grid is None:
            return (
                f"localization_radii = {self.localization_radii}: the system has no distances; "
                "set it to [null]"
            )
        for radius in self.localization_radii:
            for fault in radius_misfits(radius, system, "localization_radii"):
                return fault
        if max(self.passes) == 1:
            return None
        if system.stochastic:
            return (
                f"passes = {self.passes}: this system's model has noise of its own, which would "
                "be drawn anew when the model is run again; set it to [1]"
            )
        if self.passes_radius is not None and system.grid is None:
            return (
                f"passes_radius = {self.passes_radius}: the system has no distances; set it to null"
            )
        for fault in radius_misfits(self.passes_radius, system, "passes_radius"):
            return fault
        return None

    def training_parameters(
        self, system: dict[str, Any], observation: ObservationSettings, translation_invariant: bool
    ) -> dict[str, Any]:
        """The system's parameters for training.

        A network of local convolutions learns from a short ring what it needs on a long one, if all
        of its components are alike.
        """
        period, same_noise = observation.period, isinstance(observation.noise, float)
        local = translation_invariant and self.network.kind in ("auto", "conv1d")
        ring = local and "dimension" in system  # which says how long it is
        if period is None or not (same_noise and ring):
            return system
        longest = -(-self.training_dimension // period) * period
        return {**system, "dimension": min(system["dimension"], longest)}

    @model_validator(mode="after")
    def _some_cycles_left(self) -> PriorSettings:
        if self.spin_up_cycles >= self.cycles:
            raise ValueError(
                f"spin_up_cycles {self.spin_up_cycles} leaves none of {self.cycles} cycles"
            )
        if any(gap < 1 for gap in self.gaps):
            raise ValueError("gaps must be at least 1 step")
        return self
