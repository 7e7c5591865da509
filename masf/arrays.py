"""One code for numpy and torch: array namespaces, conversions and random numbers.

Mathematics in this package is written against the Python array API, so the same lines run on numpy
(CPU, no torch import, a fast start) and on torch (CPU and GPU). Coefficients that need float64 are
computed in numpy and then cast with :func:`like`.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from masf.faults import ContractFault, Refused
from masf.forks import forked_from_cuda, survive_forks

Array = Any
"""A numpy array or a torch tensor."""

DEVICES = ("auto", "cpu", "cuda")


def like(values: Any, x: Array) -> Array:
    """``values`` (anything numpy understands) as an array with the namespace, dtype and device of
    ``x``.
    """
    values = np.asarray(values, dtype=np.float64)
    if is_torch_array(x):  # called often enough to spare the detour
        return sys.modules["torch"].asarray(values, dtype=x.dtype, device=x.device)
    return array_namespace(x).asarray(values, dtype=x.dtype, device=device(x))


def to_numpy(x: Array) -> np.ndarray:
    """``x`` as a numpy array on the CPU."""
    if is_torch_array(x):
        x = x.detach().cpu().numpy()
    return np.asarray(x)


def scattered(values: Array, places: np.ndarray, length: int) -> Array:
    """An array (..., length) of ``values`` (..., k) at ``places`` (k,), none of them twice, and 0
    elsewhere.
    """
    shape = (*values.shape[:-1], length)
    out = array_namespace(values).zeros(shape, dtype=values.dtype, device=device(values))
    out[..., places] = values
    return out


def without_mask(values: Any) -> np.ndarray:
    """``values`` (anything numpy understands) as float64, NaN where a masked array masks them.

    ``np.asarray`` drops masks, and what is under one, such as a file's fill value, is no number.
    """
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)


def eye(n: int, x: Array) -> Array:
    """The n x n identity with the namespace, dtype and device of ``x``."""
    return array_namespace(x).eye(n, dtype=x.dtype, device=device(x))


def slices(length: int, size: int) -> list[slice]:
    """Parts of so many rows that follow each other, of at most ``size``, and one row at least."""
    step = max(1, size)
    return [slice(start, start + step) for start in range(0, length, step)]


def centred(ensemble: Array) -> tuple[Array, Array]:
    """The mean (...) over members of an ensemble (N, ...), and the anomalies (N, ...) from it.

    Both are computed from departures from the first member, which cost no digits. A float32 sum of
    a thousand members of size 100,000 does: its mean is off by 0.7, whatever their spread.
    """
    departures = ensemble - ensemble[:1]
    offset = array_namespace(ensemble).mean(departures, axis=0)
    return ensemble[0] + offset, departures - offset


def ensemble_mean(ensemble: Array) -> Array:
    """The mean (...) over members of an ensemble (N, ...); see ``centred``."""
    return ensemble[0] + array_namespace(ensemble).mean(ensemble - ensemble[:1], axis=0)


def ensemble_variance(ensemble: Array) -> Array:
    """The unbiased variance (...) over members of an ensemble (N, ...); see ``centred``."""
    return array_namespace(ensemble).sum(centred(ensemble)[1] ** 2, axis=0) / (len(ensemble) - 1)


def ensemble_spread(ensemble: Array) -> Array:
    """The standard deviation (...) over members, with N - 1, of an ensemble (N, ...)."""
    return ensemble_variance(ensemble) ** 0.5


def require_states(
    what: str, found: Any, x: Array, shape: tuple[int, ...] | None = None, hint: str = ""
) -> None:
    """Raises ContractFault unless ``found`` is an array as ``x`` is: of its namespace, of real
    floating numbers, and of ``shape``, by default that of ``x``.

    Args:
        what: made it, such as "Pendulum.step".
        found: what was made.
        x: what it was made of, such as states (N, d).
        shape: that is expected, where it is not the shape of ``x``.
        hint: what to do about a wrong shape.
    """
    expected = tuple(x.shape if shape is None else shape)
    if type(found) is type(x) and found.dtype == x.dtype and found.shape == expected:
        return  # asked of every step
    if is_torch_array(found) != is_torch_array(x) or not hasattr(found, "dtype"):
        one = "a torch tensor" if is_torch_array(x) else "a numpy array"
        raise ContractFault(
            f"{what} returned {type(found).__name__}: expected {one} of shape {expected}, as it "
            "was given"
        )
    if tuple(found.shape) != expected:
        raise ContractFault(
            f"{what} returned shape {tuple(found.shape)}: expected {expected}{hint}"
        )
    # numpy goes on in float64 where it meets some; torch would fail at the next product.
    if found.dtype != x.dtype and (is_torch_array(x) or found.dtype.kind != "f"):
        raise ContractFault(
            f"{what} returned numbers of type {found.dtype}: expected {x.dtype}; cast constants "
            "with masf.arrays.like"
        )


def softmax(x: Array) -> Array:
    """exp(x) over the last axis, normalised to sum 1 there, for ``x`` (..., n)."""
    xp = array_namespace(x)
    shifted = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return shifted / xp.sum(shifted, axis=-1, keepdims=True)


def resolve_device(requested: str, *, needs_torch: bool) -> str | None:
    """The torch device to compute on, or None for numpy.

    ``auto`` takes a GPU where there is one. Code that runs without torch does so on the CPU,
    because torch's import would cost it more than its work.

    Raises:
        ValueError: if ``cuda`` is asked for and there is none, or a fork cannot use it.
    """
    if requested not in DEVICES:
        raise ValueError(f"device {requested!r}: choose one of {', '.join(DEVICES)}")
    on_processor = requested == "cpu" or (requested == "auto" and not needs_torch)
    if on_processor and not needs_torch:
        return None
    import torch

    survive_forks()
    if on_processor:
        return "cpu"
    if forked_from_cuda():
        raise Refused(
            f"device {requested!r}: this process was forked from one that had used CUDA, and so "
            "cannot: start workers by multiprocessing.get_context('spawn'), or take device 'cpu'"
        )
    if torch.cuda.is_available():
        # Full float32, and the same sums in the same order in every run.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        return "cuda"
    if requested == "cuda":
        raise ValueError(
            "device 'cuda': torch sees no CUDA device here; use --device cpu or --device auto"
        )
    return "cpu"


def on_device(values: np.ndarray, torch_device: str | None) -> Array:
    """``values`` in float32, as a numpy array (``torch_device`` None) or as a tensor on that
    device.
    """
    values = np.asarray(values, dtype=np.float32)
    if torch_device is None:
        return values
    import torch

    return torch.as_tensor(values, device=torch_device)


class Stream:
    """Random numbers for one purpose: the same seed and purpose give the same numbers, whatever
    else was drawn for other purposes.

    That holds on one backend and device: numpy arrays get numpy's numbers, tensors get numbers made
    on their own device, and these differ.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._made_of = f"seed={seed}, purpose={purpose!r}"
        sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
        self.numpy = np.random.default_rng(sequence)
        self._torch_seed = int(sequence.generate_state(2, np.uint32)[0])
        self._torch: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._made_of})"

    def torch(self, torch_device: Any) -> Any:
        """The torch generator of this stream on one device."""
        key = str(torch_device)
        if key not in self._torch:
            self._torch[key] = (
                sys.modules["torch"].Generator(device=torch_device).manual_seed(self._torch_seed)
            )
        return self._torch[key]

    def normal(self, shape: tuple[int, ...], x: Array) -> Array:
        """Standard normal numbers of the given shape, with the namespace, dtype and device of
        ``x``.
        """
        if is_torch_array(x):
            torch = sys.modules["torch"]
            return torch.randn(
                shape, generator=self.torch(x.device), dtype=x.dtype, device=x.device
            )
        return self.numpy.standard_normal(shape, dtype=x.dtype)

    def uniform(self) -> float:
        """One number, uniform on [0, 1)."""
        return float(self.numpy.random())


def centred_normal(shape: tuple[int, int], x: Array, stream: Stream) -> Array:
    """Standard normal noise (N, d) whose mean over members is 0, so that it does not move the
    ensemble's mean.

    Its sample covariance over members, divided by N - 1, is I on average.
    """
    noise = stream.normal(shape, x)
    return noise if shape[0] == 1 else centred(noise)[1]


LARGEST = 1e15
"""A component beyond this counts as overflow: products of such components soon do."""


def overflows(x: Array) -> bool:
    """Whether a number of ``x`` is beyond LARGEST, or is none."""
    xp = array_namespace(x)
    return not bool(xp.all(xp.abs(x) < LARGEST))  # which is not so of NaN either
