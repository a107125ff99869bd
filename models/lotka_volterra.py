"""Lynx and hare: two populations that feed on and are fed on by one another.

The Hudson's Bay Company counted the pelts it bought, of snowshoe hares and of their predator, the
Canadian lynx.  The logarithms of the two series are two data sets of one pair of equations:

    du/dt = (alpha - beta v) u     hares
    dv/dt = (delta u - gamma) v    lynxes

Neither series alone says much of the other's rates.  Time is in years, populations are in
thousands of pelts; the errors are log-normal, of unknown size.  Data are simulated unless a folder
with ``hudson_lynx_hare.json`` of posteriordb is given, the series of 1900 to 1920.

B. Carpenter, Predator-prey population dynamics: the Lotka-Volterra model in Stan (2018), with the
same priors; M. Magnusson et al., posteriordb (github.com/stan-dev/posteriordb), with its posterior.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr

import bayesjoint as bj

FILE = "hudson_lynx_hare.json"  # as such, or zipped
FIRST_YEAR = 1900
SPECIES = ("hare", "lynx")
TRUTH = {"alpha": 0.55, "beta": 0.028, "gamma": 0.80, "delta": 0.024,
         "hare_start": 34.0, "lynx_start": 5.9}  # fmt: skip

STEPS = 16  # of the integrator a year: the logarithms err by less than 1e-6
UNROLLED = 2  # steps that are compiled as one
MOST = 20.0  # log of a population at which its effect saturates: explosions stay finite


# --- physics -----------------------------------------------------------------------------------


def log_populations(alpha, beta, gamma, delta, hare_start, lynx_start, years: int = 20):
    """Return the logarithms of both populations every year from the start.

    Parameters
    ----------
    alpha, beta, gamma, delta : tensor
        Growth of hares, and their loss by a lynx; death of lynxes, and their growth by a hare; all
        a year, beta and delta for a thousand pelts.
    hare_start, lynx_start : tensor
        Populations in the first year.
    years : int
        Years that follow it.

    Returns
    -------
    tensor, shape (2 (years + 1),)
        Hares, then lynxes.

    Notes
    -----
    Runge-Kutta of fourth order in the logarithms, which stay positive populations and are not stiff
    however many lynxes starve: ``d log u / dt = alpha - beta v``.

    Examples
    --------
    >>> steady = log_populations(0.5, 0.1, 0.8, 0.2, 4.0, 5.0, years=1)
    >>> np.exp(steady.eval()).round(3).tolist()
    [4.0, 4.0, 5.0, 5.0]
    """
    starts = [pt.log(pt.as_tensor(start, dtype="float64")) for start in (hare_start, lynx_start)]
    every = STEPS // UNROLLED
    series = pytensor.scan(
        _steps,
        outputs_info=starts,
        non_sequences=[pt.as_tensor(rate, dtype="float64") for rate in (alpha, beta, gamma, delta)],
        n_steps=every * years,
        return_updates=False,
    )
    return pt.concatenate(
        [
            part
            for start, log in zip(starts, series, strict=True)
            for part in (start[None], log[every - 1 :: every])
        ]
    )


def _steps(hare, lynx, *rates):
    """Return the logarithms some steps on."""
    step = 1.0 / STEPS
    state = hare, lynx
    for _ in range(UNROLLED):
        first = _slopes(state, rates)
        second = _slopes(_moved(state, first, step / 2), rates)
        third = _slopes(_moved(state, second, step / 2), rates)
        fourth = _slopes(_moved(state, third, step), rates)
        mean = [
            (a + 2 * b + 2 * c + d) / 6
            for a, b, c, d in zip(first, second, third, fourth, strict=True)
        ]
        state = _moved(state, mean, step)
    return state


def _slopes(state, rates):
    alpha, beta, gamma, delta = rates
    hare, lynx = (pt.exp(pt.minimum(log, MOST)) for log in state)
    return alpha - beta * lynx, delta * hare - gamma


def _moved(state, slopes, step: float):
    return tuple(log + step * slope for log, slope in zip(state, slopes, strict=True))


# --- pelts ---------------------------------------------------------------------------------------


def simulate(years: int = 20, noise: float = 0.25, seed: int = 1) -> xr.Dataset:
    """Return pelts of both species for a known truth, with log-normal errors.

    Parameters
    ----------
    years : int
        Years after the first.
    noise : float
        Sd of the logarithms.
    seed : int
        Of the errors.

    Returns
    -------
    Dataset
        ``hare`` and ``lynx`` (year), in thousands.

    Raises
    ------
    ValueError
        If there are no years, or the noise is not positive.
    """
    if years < 1 or not noise > 0:
        raise ValueError("lotka_volterra: years and noise must be positive")
    exact = log_populations(*TRUTH.values(), years=years).eval().reshape(2, -1)
    errors = np.random.default_rng(seed).normal(0.0, noise, exact.shape)
    return _pelts(np.exp(exact + errors))


def load(data: Path) -> xr.Dataset:
    """Return the pelts in ``hudson_lynx_hare.json``, or that file zipped, in a folder.

    Raises
    ------
    ValueError
        If there is no such file, or it holds anything but yearly counts.
    """
    plain, zipped = Path(data) / FILE, Path(data) / f"{FILE}.zip"
    if not plain.exists() and not zipped.exists():
        raise ValueError(f"lotka_volterra: {plain} is missing; give no data to simulate them")
    read: Mapping[str, Any]
    if plain.exists():
        read = json.loads(plain.read_text("utf-8"))
    else:
        with ZipFile(zipped) as archive:
            read = json.loads(archive.read(FILE))
    counts = np.array([read["y_init"], *read["y"]], dtype=float)
    if list(read["ts"]) != list(range(1, len(counts))) or counts.shape[1:] != (2,):
        raise ValueError(f"lotka_volterra: {plain} has no pair of counts for every year")
    return _pelts(counts.T)


def _pelts(counts: np.ndarray) -> xr.Dataset:
    year = FIRST_YEAR + np.arange(counts.shape[1], dtype=float)
    return xr.Dataset(
        {name: ("year", values) for name, values in zip(SPECIES, counts, strict=True)},
        coords={"year": year},
    )


# --- problem -------------------------------------------------------------------------------------


def priors() -> dict[str, bj.Prior]:
    """Return the priors of all latents."""
    rate = bj.Prior(pm.TruncatedNormal, mu=1.0, sigma=0.5, lower=0.0)
    by_thousand = bj.Prior(pm.TruncatedNormal, mu=0.05, sigma=0.05, lower=0.0)
    start = bj.Prior(pm.LogNormal, mu=np.log(10.0), sigma=1.0)
    return {
        "alpha": rate, "beta": by_thousand, "gamma": rate, "delta": by_thousand,
        "hare_start": start, "lynx_start": start,
    }  # fmt: skip


def problem(
    data: Path | None = None, *, years: int = 20, noise: float = 0.25, seed: int = 1
) -> bj.JointProblem:
    """Return the joint problem of both series.

    Parameters
    ----------
    data : Path, optional
        Folder with the pelts, as in `load`; by default they are simulated.
    years, noise, seed
        As in `simulate`.
    """
    pelts = simulate(years, noise, seed) if data is None else load(data)
    count = pelts.sizes["year"]

    def both(*latents):
        return log_populations(*latents, years=count - 1)

    forward = bj.pytensor_map(both, list(priors()), name="lotka_volterra")
    modalities = [
        bj.Modality(
            name,
            np.log(pelts[name]),
            forward,
            bj.GaussianNoise(sd=bj.Prior(pm.LogNormal, mu=-1.0, sigma=1.0)),
            observe=np.eye(2 * count)[where * count : (where + 1) * count],
        )
        for where, name in enumerate(SPECIES)
    ]
    return bj.JointProblem(
        latents=[bj.Parameter(name, prior) for name, prior in priors().items()],
        modalities=modalities,
    )
