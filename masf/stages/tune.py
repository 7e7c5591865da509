"""Stage tune: the parameters with which a filter scores best on tuning seeds, from each seed's
truth.nc to {filter}.json.

They are found by Optuna's TPE sampler. The first trial is the default, what the filter's file says,
so that tuning never makes the score on tuning seeds worse. The score of a trial is the mean over
all tuning seeds; a trial that diverges on one of them scores infinity and is never chosen. A run
that loses track (masf.scores.tracking) is in that mean with its whole error, unlike in tables of
results, so that parameters which hold the track on all seeds are preferred, and where none do,
those which hold it longest. No combination is tried twice: where the sampler repeats one, an
untried one is drawn, and tuning ends when there is none left.

Each trial is a function of those before it and of nothing else. Finished trials are kept in a
journal, so that a run which was killed, or asked for more trials, goes on from them to the result
of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from masf import __version__
from masf.arrays import Stream
from masf.atomic import FileFault, made_again, replacing
from masf.files.estimate import estimate
from masf.files.records import tuning_record
from masf.files.truth import Truth, read_truth
from masf.files.tuned import TUNING_FORMAT
from masf.filters.registry import filter_class
from masf.progress import progress_bar
from masf.scores.averages import averages
from masf.scores.tracking import climatological_spread, lost_track
from masf.stages.assimilate import computed_on, read_by, run_filter
from masf.study.search import (
    Choice,
    Range,
    TunableScore,
    extremes,
    is_number,
    plain,
    with_current,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """Searched parameters, their score on each tuning seed in order, up to one that diverged, the
    mean, and on how many of these seeds the run lost track.
    """

    parameters: dict[str, Any]
    scores: list[float]
    score: float
    lost: int = 0

    @property
    def diverged(self) -> bool:
        return math.isinf(self.score)


@dataclass(frozen=True)
class Space:
    """What is searched, the value in force included, as Optuna and as the filter see it.

    A list is searched by its indices: numbers in their order, anything else without one.
    """

    choices: dict[str, Choice]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {key: _distribution(choice) for key, choice in self.choices.items()}

    @property
    def shape(self) -> tuple[int, ...] | None:
        """How many values each parameter has; None where one has infinitely many."""
        counts = [_count(choice) for choice in self.choices.values()]
        return None if None in counts else tuple(count for count in counts if count is not None)

    def encode(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters as Optuna sees them."""
        return {
            k: parameters[k] if isinstance(c, Range) else c.index(parameters[k])
            for k, c in self.choices.items()
        }

    def decode(self, encoded: dict[str, Any]) -> dict[str, Any]:
        """Parameters as the filter sees them."""
        return {
            k: encoded[k] if isinstance(c, Range) else c[encoded[k]]
            for k, c in self.choices.items()
        }

    def at(self, index: int) -> dict[str, Any]:
        """The combination of the given number, where there are finitely many."""
        assert self.shape is not None
        places = np.unravel_index(index, self.shape)
        return {
            k: _value(c, int(i)) for (k, c), i in zip(self.choices.items(), places, strict=True)
        }


def _distribution(choice: Choice) -> BaseDistribution:
    if isinstance(choice, Range):
        if choice.whole:
            return IntDistribution(
                int(choice.low), int(choice.high), log=choice.log, step=int(choice.step or 1)
            )
        return FloatDistribution(choice.low, choice.high, log=choice.log, step=choice.step)
    if all(map(is_number, choice)):
        return IntDistribution(0, len(choice) - 1)
    return CategoricalDistribution(range(len(choice)))


def _count(choice: Choice) -> int | None:
    if not isinstance(choice, Range):
        return len(choice)
    step = choice.step or (1 if choice.whole else None)
    return None if step is None else round((choice.high - choice.low) / step) + 1


def _value(choice: Choice, i: int) -> Any:
    return choice.low + i * (choice.step or 1) if isinstance(choice, Range) else choice[i]


def propose(
    space: Space, finished: list[Trial], default: dict[str, Any], stream: Stream
) -> dict[str, Any] | None:
    """The parameters of the next trial, or None if all have been tried.

    Args:
        space: what is searched.
        finished: the trials so far.
        default: the parameters of the first trial.
        stream: random numbers of this trial alone.
    """
    if not finished:
        return default
    if space.shape is not None and len(finished) >= math.prod(space.shape):
        return None
    sampler = optuna.samplers.TPESampler(seed=int(stream.numpy.integers(2**32)))
    study = optuna.create_study(sampler=sampler)
    study.add_trials([_frozen(trial, space) for trial in finished])
    suggested = space.decode(study.ask(space.distributions).params)
    tried = {_key(space, trial.parameters) for trial in finished}
    if space.shape is None or _key(space, suggested) not in tried:
        return suggested
    size = math.prod(space.shape)
    first = int(stream.numpy.integers(size))
    around = (space.at((first + i) % size) for i in range(size))
    return next(parameters for parameters in around if _key(space, parameters) not in tried)


def _key(space: Space, parameters: dict[str, Any]) -> str:
    # Steps of a float are summed up in more than one way.
    return json.dumps(
        {k: round(v, 9) if isinstance(v, float) else v for k, v in space.encode(parameters).items()}
    )


def _frozen(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        value=trial.score,
        params=space.encode(trial.parameters),
        distributions=space.distributions,
        user_attrs=asdict(trial),
    )


class Journal:
    """The finished trials of one search, in a file that may hold those of other searches as
    well.
    """

    def __init__(self, path: Path, name: str, space: Space) -> None:
        self.path = path
        path = Path(path).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        try:
            self.study = optuna.create_study(
                storage=JournalStorage(backend), study_name=name, load_if_exists=True
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FileFault(
                path,
                f"is no journal of finished trials ({error!r})",
                made_again("tune"),
            ) from error
        self.space = space

    def add(self, trial: Trial) -> None:
        self.study.add_trial(_frozen(trial, self.space))

    def trials(self) -> list[Trial]:
        """In their order; those that a second process has made meanwhile are the same ones, and are
        left out.
        """
        found: dict[str, Trial] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            trial = Trial(**frozen.user_attrs)
            found.setdefault(_key(self.space, trial.parameters), trial)
        return list(found.values())


def _cut_torn_line(path: Path) -> None:
    """Removes what a process that was killed while it wrote has left at the end, which would spoil
    the line after it.
    """
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("rb+") as f:
                f.truncate(whole)


def evaluate(
    run: Callable[[dict[str, Any], Truth], tuple[float, bool]],
    parameters: dict[str, Any],
    truths: list[Truth],
) -> Trial:
    """A trial: the score on each truth, up to the first that is not finite, which makes the mean
    infinite. ``run`` says the score of one run, and whether it lost track.
    """
    scores: list[float] = []
    lost = 0
    for truth in truths:
        score, astray = run(parameters, truth)
        scores.append(score)
        lost += astray
        if not math.isfinite(score):
            return Trial(parameters, [*scores[:-1], math.inf], math.inf, lost)
    return Trial(parameters, scores, float(np.mean(scores)), lost)


@dataclass(frozen=True)
class Search:
    """One search: the trials of a filter on the truths of the tuning seeds, each a function of
    those before it.

    Attributes:
        name: what tables call the filter.
        module: its module in masf/filters.
        command: what runs a filter that is not ours, in place of the module.
        parameters: those in force, of which the searched ones are varied and the others stay.
        default: the searched parameters of the first trial.
        space: what is searched.
        truths: one a tuning seed.
        score: which score is made small.
        spin_up_cycles: how many of the first cycles it leaves out.
        prior: the pretrained prior, for filters that use one.
        device: where to compute.
    """

    name: str
    module: str
    command: str | None
    parameters: dict[str, Any]
    default: dict[str, Any]
    space: Space
    truths: list[Truth]
    score: str
    spin_up_cycles: int
    prior: Path | None
    device: str

    @property
    def seeds(self) -> list[int]:
        return [truth.settings.seed for truth in self.truths]

    @property
    def choices(self) -> dict[str, Any]:
        """What is searched, as a filter's file would say it."""
        return {key: plain(choice) for key, choice in self.space.choices.items()}

    def digest(self, made_from: dict[str, Any]) -> str:
        """Twelve digits that differ where trials of another search would score differently, or
        stand in another order.
        """
        identity = {
            "module": self.module,
            "parameters": self.parameters,
            "search": self.choices,
            "score": self.score,
            "spin_up_cycles": self.spin_up_cycles,
            "seeds": self.seeds,
            **made_from,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    def score_of(self, chosen: dict[str, Any], truth: Truth) -> tuple[float, bool]:
        """The score of one run with the ``chosen`` parameters, NaN where it diverges, and whether
        it lost track.
        """
        trajectory, system, _ = run_filter(
            self.module, self.parameters | chosen, truth,
            prior=self.prior, device=self.device, saved_members=0, command=self.command,
            called=self.name,
        )  # fmt: skip
        data = estimate(trajectory, truth, system, {"filter": self.name})
        gap, spin_up = truth.settings.gap, self.spin_up_cycles
        lost = lost_track(
            data,
            gap=gap,
            spin_up_cycles=spin_up,
            without_measurements=climatological_spread(truth.truth),
        )
        return averages(data, gap=gap, spin_up_cycles=spin_up)[self.score], lost

    def run(self, journal: Journal, trials: int) -> list[Trial]:
        """All trials up to their number, those in the journal first; fewer, where no combination is
        left to try.
        """
        finished = journal.trials()[:trials]
        if finished:
            log.info("%s: %d finished trials found in %s", self.name, len(finished), journal.path)
        progress = progress_bar(
            total=trials, initial=len(finished), desc=f"tune {self.name}", unit="trial"
        )
        while len(finished) < trials:
            stream = Stream(self.seeds[0], f"tune {self.name}, trial {len(finished)}")
            chosen = propose(self.space, finished, self.default, stream)
            if chosen is None:
                break
            trial = evaluate(self.score_of, chosen, self.truths)
            journal.add(trial)
            finished.append(trial)
            progress.update()
            log.info(
                "%s, trial %d of %d: %s: %s %s",
                self.name,
                len(finished),
                trials,
                chosen,
                self.score,
                trial.score,
            )
        progress.close()
        return finished


def tune_to_file(
    truths: list[Path],
    output: Path,
    *,
    name: str,
    module: str | None,
    command: str | None,
    parameters: dict[str, Any],
    pinned: dict[str, Any] | None = None,
    search: dict[str, Choice],
    situation: dict[str, Any],
    trials: int,
    score: str,
    spin_up_cycles: int,
    storage: Path,
    prior: Path | None,
    device: str,
    threads: int,
) -> None:
    """Writes {filter}.json of one filter in one situation.

    Args:
        truths: truth.nc of each tuning seed.
        output: {filter}.json.
        name: what tables call the filter.
        module: its module in masf/filters; its name without this.
        command: instead of a module, what runs a filter that is not ours.
        parameters: as in ``tune``, but for the pinned ones, and so on to ``storage``.
        pinned: parameters that override these in every trial; recorded.
        search: what is searched.
        situation: what the situation is called.
        trials: how many to make.
        score: what is made small.
        spin_up_cycles: how many of the first cycles the score leaves out.
        storage: journal of finished trials.
        prior: prior.safetensors, for filters that use one.
        device: where to compute.
        threads: processor cores that numerical libraries are limited to, for the record.

    Raises:
        ValueError: as ``tune``.
        FileFault: for a file that is missing or damaged.
    """
    cells, module = [read_truth(path) for path in truths], module or name
    pinned = pinned or {}
    parameters = {**parameters, **pinned}
    made_from = tuning_record(
        module,
        cells[0].settings.system,
        command,
        truths=truths,
        prior=prior,
        device=computed_on(module, parameters, command, device),
        threads=threads,
        files=_files_read(module, parameters, command, search),
    )
    outcome = tune(
        name,
        module,
        parameters,
        search,
        cells,
        situation=situation,
        trials=trials,
        score=score,
        spin_up_cycles=spin_up_cycles,
        storage=storage,
        made_from=made_from,
        prior=prior,
        device=device,
        command=command,
    )
    write_tuning(output, {**outcome, "pinned": pinned})


def _files_read(
    module: str, parameters: dict[str, Any], command: str | None, search: dict[str, Choice]
) -> dict[str, list[str]]:
    """SHA-256 of the files among the parameters, by the parameter: of those in force, and then of
    those that are tried, in their order.

    Raises:
        ValueError: where the filter has no such parameter, or files are not there.
    """
    _searched_default(module, command, parameters, search)
    tried = [{key: value} for key, choice in search.items() for value in extremes(choice)]
    found: dict[str, list[str]] = {}
    for changed in ({}, *tried):
        for key, digest in read_by(module, parameters | changed, command).items():
            found.setdefault(key, []).append(digest)
    return {key: list(dict.fromkeys(digests)) for key, digests in found.items()}


def tune(
    name: str,
    module: str,
    parameters: dict[str, Any],
    search: dict[str, Choice],
    truths: list[Truth],
    *,
    situation: dict[str, Any],
    trials: int,
    score: str,
    spin_up_cycles: int,
    storage: Path,
    made_from: dict[str, Any],
    prior: Path | None = None,
    device: str = "auto",
    command: str | None = None,
) -> dict[str, Any]:
    """Searches the parameters of one filter in one situation; what {filter}.json holds.

    Args:
        name: what tables call the filter.
        module: its module in masf/filters.
        parameters: those in force; the searched ones are the first trial, the others stay.
        search: what is searched.
        truths: one a tuning seed, alike but for the seed.
        situation: what the situation is called; recorded.
        trials: how many to make, those in ``storage`` included.
        score: which of masf.scores.averages is made small.
        spin_up_cycles: how many of the first cycles the score leaves out.
        storage: journal of finished trials.
        made_from: versions and digests that the scores depend on; trials made from others are not
            taken from ``storage``.
        prior: the pretrained prior, for filters that use one.
        device: where to compute.
        command: what runs a filter that is not ours, in place of the module.

    Raises:
        ValueError: for truths that differ in more than the seed, too few cycles, or a value in
            force outside the search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if score not in get_args(TunableScore):
        raise ValueError(f"score {score!r}: choose one of {', '.join(get_args(TunableScore))}")
    if missing := sorted({"system", "observation"} - situation.keys()):
        raise ValueError(f"situation {json.dumps(situation)}: lacks {', '.join(missing)}")
    settings = _common_settings(truths)
    if spin_up_cycles >= settings["cycles"]:
        raise ValueError(
            f"spin_up_cycles {spin_up_cycles} leaves none of {settings['cycles']} cycles to score"
        )
    default = _searched_default(module, command, parameters, search)
    space = Space({key: with_current(search[key], default[key]) for key in default})
    searching = Search(
        name,
        module,
        command,
        parameters,
        default,
        space,
        truths,
        score,
        spin_up_cycles,
        prior,
        device,
    )
    finished = searching.run(
        Journal(storage, f"{name} {searching.digest(made_from)}", space), trials
    )
    best = min(finished, key=lambda trial: trial.score)
    return {
        "format": TUNING_FORMAT,
        "filter": name,
        "module": module,
        "situation": situation,
        "chosen": default if best.diverged else best.parameters,
        "default": default,
        "score": score,
        "chosen_score": _finite(best.score),
        "default_score": _finite(finished[0].score),
        "budget": {
            "trials": trials,
            "run": len(finished),
            "diverged": sum(trial.diverged for trial in finished),
            "lost": sum(trial.lost > 0 for trial in finished),
        },
        "trials": [
            {
                "parameters": t.parameters,
                "score": _finite(t.score),
                "scores": list(map(_finite, t.scores)),
                "lost": t.lost,
            }
            for t in finished
        ],
        "parameters": parameters,
        "search": searching.choices,
        "seeds": searching.seeds,
        "truth_settings": settings,
        "spin_up_cycles": spin_up_cycles,
        "versions": {"masf": __version__, "optuna": optuna.__version__, "numpy": np.__version__},
        **made_from,
    }


def _searched_default(
    module: str, command: str | None, parameters: dict[str, Any], search: dict[str, Choice]
) -> dict[str, Any]:
    """The searched parameters that are in force. Raises ValueError where the filter has no such
    parameter.
    """
    known = (
        parameters
        if command is not None
        else filter_class(module).Parameters(**parameters).model_dump()
    )
    if unknown := sorted(search.keys() - known.keys()):
        raise ValueError(
            f"search: filter {module!r} has no parameter {', '.join(unknown)}; it has "
            f"{', '.join(known)}"
        )
    return {key: parameters.get(key, known[key]) for key in sorted(search)}


def _common_settings(truths: list[Truth]) -> dict[str, Any]:
    """The settings that all truths share, all but the seed."""
    first, *others = (asdict(replace(truth.settings, seed=0)) for truth in truths)
    for truth, other in zip(truths[1:], others, strict=True):
        if different := sorted(key for key in first if first[key] != other[key]):
            raise ValueError(
                f"the truths of seeds {truths[0].settings.seed} and {truth.settings.seed} "
                f"differ in {different}"
            )
    if len({truth.settings.seed for truth in truths}) < len(truths):
        raise ValueError("two truths have the same seed")
    del first["seed"]
    return first


def _finite(value: float) -> float | None:
    """JSON has no infinity: None for a run that diverged."""
    return value if math.isfinite(value) else None


def write_tuning(path: Path, content: dict[str, Any]) -> None:
    """Writes {filter}.json."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
