"""``masf show``: what is in a file that masf wrote."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from masf.cli.output import print_table

Row = tuple[str, str]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--spin-up-cycles",
    type=click.IntRange(0),
    help="First cycles not scored; without it those that the run, or the study, left out.",
)
def show(file: Path, spin_up_cycles: int | None) -> None:
    """Say what is in a file, or a folder, that masf wrote.

    FILE is a truth.nc, {filter}.nc, prior.safetensors, scores.parquet or costs.parquet: what it is,
    the cell and the settings that it was made with, its scores, and what made it. Of a folder, such
    as one of `masf run --output` or of a study's results, the scores of what was estimated in it.
    """
    from masf.atomic import FileFault

    kinds: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".nc": lambda path: _netcdf(path, spin_up_cycles),
        ".safetensors": _prior,
    }
    if not file.exists():
        raise FileFault(file, "does not exist", "name a file that masf wrote")
    if file.is_dir():
        print_table(*_folder(file, spin_up_cycles), always_headed=True)
    elif file.suffix == ".parquet":
        print_table(*_scores(file), always_headed=True)
    elif file.suffix in kinds:
        print_table(["", str(file)], list(kinds[file.suffix](file)))
    else:
        raise FileFault(
            file, "is no file of masf's that can be shown", "expected .nc, .safetensors or .parquet"
        )


def _netcdf(path: Path, spin_up_cycles: int | None) -> Iterator[Row]:
    from masf.atomic import FileFault
    from masf.files.netcdf import ESTIMATE_FORMAT, TRUTH_FORMAT, open_netcdf
    from masf.files.truth import read_truth

    with open_netcdf(path, remedy="make it again", missing="name a file that masf wrote") as data:
        attributes = dict(data.attrs)
        sizes = {name: dict(v.sizes) for name, v in data.variables.items()}
    kind = attributes.get("format")
    if kind not in (TRUTH_FORMAT, ESTIMATE_FORMAT):
        raise FileFault(
            path,
            f"has format {kind!r}, which masf does not write",
            "name a truth.nc or {filter}.nc",
        )
    yield "title", attributes["title"]
    yield from _settings(json.loads(attributes["settings"]))
    if kind == TRUTH_FORMAT and "truth" in sizes:
        read_truth(path)
    elif kind == TRUTH_FORMAT:
        yield "truth", "not known: a problem of masf.make_problem"
    else:
        yield from _estimate(path, spin_up_cycles)
    yield (
        "made by",
        f"masf {attributes['masf_version']}, code {attributes['code_version'] or 'of the user'}",
    )
    yield (
        "variables",
        "; ".join(f"{k} ({', '.join(f'{d} {n}' for d, n in v.items())})" for k, v in sizes.items()),
    )


def _joined(content: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in content.items())


def _settings(settings: dict[str, Any]) -> Iterator[Row]:
    yield "system", f"{settings['system']} ({_joined(settings['parameters'])})"
    yield "observation", _joined(settings["observation"])[:200]
    yield (
        "cell",
        _joined(
            {
                k: settings[k]
                for k in ("gap", "members", "cycles", "initial_spread", "seed")
                if settings[k] is not None
            }
        ),
    )


def _folder(folder: Path, spin_up_cycles: int | None) -> tuple[list[str], list[list[str]]]:
    """The scores that a folder has: those that were gathered, or else one row an estimate."""
    import pandas as pd

    from masf.atomic import FileFault
    from masf.files.estimate import read_estimate
    from masf.files.netcdf import ESTIMATE_FORMAT, open_netcdf
    from masf.report.newcomer import lost_beside_truth
    from masf.scores.run import SCORES, shown_scores
    from masf.study import paths

    if (folder / paths.SCORES).is_file() and spin_up_cycles is None:
        return _scores(folder / paths.SCORES)
    rows = {}
    for path in sorted(folder.rglob("*.nc")):
        with open_netcdf(path, remedy="make it again", missing="name a folder of masf's") as data:
            if data.attrs.get("format") != ESTIMATE_FORMAT:
                continue
        data = read_estimate(path, truth_known=False)
        cycles = _cycles_left_out(path, data, spin_up_cycles)
        found = _scored(path, data, cycles)
        lost = found is not None and lost_beside_truth(path, data, cycles)
        name = f"{path.relative_to(folder)}{' (lost track)' if lost else ''}"
        rows[name] = data.attrs["diverged"], found
    if not rows:
        raise FileFault(
            folder,
            "holds no scores.parquet and no estimate",
            "name a folder of masf run --output, a study's results, or a cell of them",
        )
    shown = shown_scores(pd.DataFrame([found or {} for _, found in rows.values()]))
    table = []
    for name, (diverged, found) in rows.items():
        none = ["diverged" if diverged else "truth not known", *[""] * (len(shown) - 1)]
        scores = none if found is None else [f"{found[key]:.4g}" for key in shown]
        table.append([name, *scores])
    return ["estimate", *(SCORES[key] for key in shown)], table


def _cycles_left_out(path: Path, data: Any, spin_up_cycles: int | None) -> int:
    """The cycles that the scores of an estimate leave out: those asked for, or those that were
    left out where it was made. Raises UsageError where none would be left.
    """
    from masf.study.load import cycles_left_out

    if spin_up_cycles is None:
        return cycles_left_out(path, data.attrs)
    cycles = json.loads(data.attrs["settings"])["cycles"]
    if spin_up_cycles >= cycles:
        raise click.UsageError(
            f"--spin-up-cycles {spin_up_cycles} leaves none of {cycles} cycles to score"
        )
    return spin_up_cycles


def _scored(path: Path, data: Any, spin_up_cycles: int) -> dict[str, float] | None:
    """The scores of an estimate; None where it diverged, or its truth is not known."""
    from masf.scores.run import score

    if data.attrs["diverged"] or "rmse" not in data:
        return None
    settings = json.loads(data.attrs["settings"])
    return score(
        data,
        gap=settings["gap"],
        spin_up_cycles=spin_up_cycles,
        velocities=_velocities(path, settings),
    )


def _estimate(path: Path, spin_up_cycles: int | None) -> Iterator[Row]:
    from masf.files.cost import mean_model_runs
    from masf.files.estimate import read_estimate
    from masf.files.parameters import ParameterSource
    from masf.report.newcomer import lost_beside_truth
    from masf.report.words import innovations_in_words, runs_in_words, source_in_words
    from masf.scores.innovations import INNOVATIONS, Innovations
    from masf.scores.run import SCORES

    data = read_estimate(path, truth_known=False)
    spin_up_cycles = _cycles_left_out(path, data, spin_up_cycles)
    yield (
        "filter",
        data.attrs.get("filter_command") or data.attrs.get("filter_module", data.attrs["filter"]),
    )
    source = ParameterSource.model_validate_json(data.attrs["parameter_source"])
    yield "parameters", f"{data.attrs['filter_parameters']} ({source_in_words(source)})"
    yield "computed on", f"{data.attrs.get('device', 'unknown')}"
    yield "model runs a cycle", runs_in_words(mean_model_runs(data["model_runs"].values))
    if data.attrs["diverged"]:
        yield "diverged", f"at cycle {data.attrs['diverged_at_cycle']}: no scores"
        return
    first = "first cycle" if spin_up_cycles == 1 else f"first {spin_up_cycles} cycles"
    left_out = f", the {first} left out" if spin_up_cycles else ", all cycles"
    if INNOVATIONS.keys() <= set(data.variables):
        of_measurements = Innovations.of(data, spin_up_cycles).statistics()
        yield "normalised innovations", f"{innovations_in_words(of_measurements)}{left_out}"
    found = _scored(path, data, spin_up_cycles)
    if found is None:
        yield "scores", "none: its truth is not known"
        return
    if lost_beside_truth(path, data, spin_up_cycles):
        yield "lost track", "of the truth: it estimates some other state"
    for key, value in found.items():
        if value == value:
            yield SCORES[key], f"{value:.4g}{left_out}"


def _velocities(path: Path, settings: dict[str, Any]) -> Any:
    """The truth of a flow (times, 2, n, n), from truth.nc beside an estimate where there is one:
    scores of fields need it.
    """
    from masf.atomic import FileFault
    from masf.files.cell import CellSettings
    from masf.files.truth import read_velocities
    from masf.systems.registry import system_class, system_names

    if settings["system"] in system_names() and system_class(settings["system"]).flow:
        with contextlib.suppress(FileFault):  # missing, or of another cell
            return read_velocities(path.with_name("truth.nc"), CellSettings(**settings))
    return None


def _prior(path: Path) -> Iterator[Row]:
    from masf.files.prior import read_prior

    metadata, tensors = read_prior(path, "np")
    settings = json.loads(metadata["settings"])
    numbers = sum(tensor.size for key, tensor in tensors.items() if key.startswith("network."))
    yield "title", f"Pretrained prior: {metadata['system']}"
    yield "system", f"{metadata['system']} ({_joined(json.loads(metadata['system_parameters']))})"
    yield (
        "observation",
        _joined({k: v for k, v in json.loads(metadata["observation"]).items() if v is not None}),
    )
    yield "network", f"{json.dumps(settings['network'])}, {numbers} weights"
    yield "gaps", ", ".join(map(str, settings["gaps"]))
    yield (
        "held-out loss",
        f"{metadata['held_out_loss']} (Gaussian denoiser {metadata['held_out_loss_gaussian']})",
    )
    yield "training", _joined({k: v for k, v in settings.items() if k not in ("network", "gaps")})
    yield "seed", metadata["seed"]
    yield "made by", f"masf {metadata['masf_version']}, code {metadata['code_version']}"


def _scores(path: Path) -> tuple[list[str], list[list[str]]]:
    """Means over seeds of what scores.parquet or costs.parquet holds, one row a system, situation
    and filter.
    """
    from masf.atomic import FileFault
    from masf.report.rows import on_track, parameter_columns, read_rows
    from masf.report.words import runs_in_words
    from masf.scores.run import shown_scores

    rows = read_rows(path, "Parquet")
    costs = ["seconds_per_cycle", "model_runs_per_cycle", "peak_memory_mib"]
    shown = shown_scores(rows) if "rmse" in rows else costs
    if "filter" not in rows or not set(shown) <= set(rows):
        raise FileFault(path, "is no table of masf's", "name a scores.parquet or costs.parquet")
    parameters = parameter_columns(map(str, rows))
    keys = [
        key
        for key in map(str, rows)
        if key in ("system", "observation", "gap", "members", "filter", *parameters)
    ]
    groups = rows.groupby(keys, sort=False, dropna=False)
    counted = groups.size().rename("runs").to_frame()
    if "diverged" in rows:
        counted["diverged"] = groups["diverged"].sum()
    if "lost" in rows:
        counted["lost"] = groups["lost"].sum()
        groups = on_track(rows).groupby(keys, sort=False, dropna=False)
    table = counted.join(groups[shown].mean()).reset_index()
    if "model_runs_per_cycle" in table:
        table["model_runs_per_cycle"] = table["model_runs_per_cycle"].map(runs_in_words)
    # A parameter that other systems have says nothing here.
    text = table.map(lambda v: "" if v != v else f"{v:.4g}" if isinstance(v, float) else str(v))
    return [key.removeprefix("parameter_") for key in text.columns], text.values.tolist()
