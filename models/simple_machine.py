"""The simple machine: a physical parameter, when the model leaves out the friction.

A machine delivers work in proportion to the effort put in, ``work = theta effort``: so says the
model, and theta, the work an effort would give without losses, is a physical quantity.  The true
machine loses some to friction, more so at higher effort:

    work = theta effort / (1 + effort / a),    theta = 0.65, a = 20

Eleven measurements, at efforts from 0.2 to 4, with errors of 0.01.  The discrepancy ``delta``, what
the model leaves out, can be told apart from theta by its prior alone:

``none``
    The model is right.
``uninformative``
    A smooth Gaussian process (Matérn, smoothness 5/2) of unknown sd and length scale, that may be
    anything: a part proportional to effort too, and that is theta itself.
``constrained``
    What we know of friction: no effort, no loss; the loss starts smoothly, and grows with effort.
    So ``delta(0) = 0``, ``delta'(0) = 0`` and ``delta' < 0`` beyond.

J. Brynjarsdóttir and A. O'Hagan, Learning about physical parameters: the importance of model
discrepancy, Inverse Problems 30 (2014) 114007, doi 10.1088/0266-5611/30/11/114007.  They impose the
same three constraints on a Gaussian process, by conditioning on its value and slope at 0 and on
the sign of its slope at some points.  We impose them exactly and everywhere, by construction:

    delta(x) = - integral from 0 to x of s exp(g(s)) ds

with ``g`` a Gaussian field.  The priors say no more than orders of magnitude: theta, 1 (a machine
without any loss) give or take 1; the unconstrained discrepancy, up to as large as the work, and as
smooth as over the range of efforts, within a factor of two; the constrained loss at the largest
effort, a fifth of that effort within a factor of five, and exp(g) may change by a factor of two
over the range of efforts.
"""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

import bayesjoint as bj

THETA, A = 0.65, 20.0
NOISE = 0.01
EFFORTS = 0.2, 4.0  # range of the measurements
FARTHEST = 6.0  # effort up to which the constrained discrepancy is known
CELLS = 24  # of the field g, from 0 to there
ROUNDING = 1e-8  # of the variance of a process: more than rounding errors, less than matters
DISCREPANCIES = ("none", "uninformative", "constrained")

RANGE = 4.0

PRIORS = {
    "theta": bj.Prior(pm.Normal, mu=1.0, sigma=1.0),
    "sd": bj.Prior(pm.HalfNormal, sigma=1.0),
    "length_scale": bj.Prior(pm.LogNormal, mu=np.log(RANGE), sigma=np.log(2.0)),
    # The loss is exp(mean) x^2 / 2: 0.8 at effort 4.
    "bend_mean": bj.Prior(pm.Normal, mu=np.log(0.1), sigma=np.log(5.0)),
}
BEND = {"sd": np.log(2.0), "length_scale": RANGE, "smoothness": 2.5}


# --- physics -----------------------------------------------------------------------------------


def true_work(effort):
    """Return the work of the true machine."""
    return THETA * effort / (1.0 + effort / A)


def loss_weights(efforts: np.ndarray) -> np.ndarray:
    """Return the matrix from ``exp(g)`` to the loss, shape (effort, cell).

    Entries are the integrals of ``s`` over the part of each cell below each effort, so that the
    loss is exact for a ``g`` that is constant within cells.

    Parameters
    ----------
    efforts : array, shape (n,)
        From 0 to `FARTHEST`.

    Raises
    ------
    ValueError
        If an effort lies beyond.

    Examples
    --------
    >>> loss_weights(np.array([0.0, 2.0, 6.0])).sum(axis=1)  # x^2 / 2
    array([ 0.,  2., 18.])
    """
    efforts = np.asarray(efforts, dtype=float)
    if efforts.min() < 0.0 or efforts.max() > FARTHEST:
        raise ValueError(f"simple_machine: the loss is known for efforts from 0 to {FARTHEST:g}")
    faces = np.linspace(0.0, FARTHEST, CELLS + 1)
    reached = np.minimum(faces, efforts[:, None])
    return np.diff(reached**2 / 2, axis=1)


def matern(distance: np.ndarray) -> np.ndarray:
    """Return the Matérn correlation of smoothness 5/2 at a distance in length scales."""
    scaled = np.sqrt(5.0) * distance
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)


# --- measurements --------------------------------------------------------------------------------


def simulate(count: int = 11, instruments: int = 1, seed: int = 1) -> xr.Dataset:
    """Return work measured at even efforts, by one instrument or more.

    Parameters
    ----------
    count : int
        Measurements of each instrument.
    instruments : int
        How many.
    seed : int
        Of the errors.

    Returns
    -------
    Dataset
        ``work`` and, with more instruments, ``work_2`` ... (effort).

    Raises
    ------
    ValueError
        If there are fewer than two measurements, or no instrument.
    """
    if count < 2 or instruments < 1:
        raise ValueError("simple_machine: two measurements by one instrument are the least")
    effort = np.linspace(*EFFORTS, count)
    errors = np.random.default_rng(seed).normal(0.0, NOISE, (instruments, count))
    names = ["work", *(f"work_{i}" for i in range(2, instruments + 1))]
    values = dict(zip(names, true_work(effort) + errors, strict=True))
    return xr.Dataset(
        {name: ("effort", work) for name, work in values.items()}, coords={"effort": effort}
    )


# --- problem -------------------------------------------------------------------------------------


def problem(
    data: xr.Dataset | None = None,
    *,
    discrepancy: str = "constrained",
    count: int = 11,
    instruments: int = 1,
    seed: int = 1,
) -> bj.JointProblem:
    """Return the problem of one machine, one data set for each instrument.

    Parameters
    ----------
    data : Dataset, optional
        Measurements as from `simulate`; by default they are simulated.
    discrepancy : str
        One of `DISCREPANCIES`.  It belongs to the machine: all instruments share it.
    count, instruments, seed
        As in `simulate`.

    Raises
    ------
    ValueError
        If the discrepancy is unknown, or the data are no such Dataset.
    """
    if data is not None and not (isinstance(data, xr.Dataset) and "effort" in data):
        raise ValueError("simple_machine: the data must be a Dataset over the coordinate effort")
    if discrepancy not in DISCREPANCIES:
        raise ValueError(
            f"simple_machine: discrepancy {discrepancy!r} is unknown; use one of {DISCREPANCIES}"
        )
    measured = simulate(count, instruments, seed) if data is None else data
    effort = measured["effort"].values
    latents: list[Any] = [bj.Parameter("theta", PRIORS["theta"])]
    forward = bj.linear_map(effort[:, None], "theta", name="machine")
    shared = None
    if discrepancy == "uninformative":
        shared = bj.JointDiscrepancy(
            loadings=dict.fromkeys(map(str, measured), 1.0),
            sd=PRIORS["sd"],
            on="effort",
            length_scale=PRIORS["length_scale"],
            smoothness=2.5,
        )
    if discrepancy == "constrained":
        latents.append(_bend())
        forward = _with_losses(effort)
    return bj.JointProblem(
        latents=latents,
        modalities=[
            bj.Modality(str(name), work, forward, bj.GaussianNoise(sd=NOISE))
            for name, work in measured.items()
        ],
        discrepancy=shared,
    )


def _bend() -> bj.GaussianField:
    """Return the field ``g``: the logarithm of how fast the slope of the work falls."""
    width = FARTHEST / CELLS
    grid = bj.Grid(s=width * (np.arange(CELLS) + 0.5))
    return bj.GaussianField("bend", grid, mean=PRIORS["bend_mean"], **BEND)


def _with_losses(effort: np.ndarray) -> Any:
    weights = loss_weights(effort)

    def machine(theta, bend):
        return theta * effort - weights @ pt.exp(bend)

    return bj.pytensor_map(machine, ["theta", "bend"])


# --- prediction ----------------------------------------------------------------------------------


def real_work(tree: xr.DataTree, efforts: np.ndarray, random_seed: int = 0) -> np.ndarray:
    """Return draws of the work of the real machine at some efforts, measured or not.

    Parameters
    ----------
    tree : DataTree
        From ``bj.sample`` of a `problem`.
    efforts : array, shape (n,)
        Where; at most `FARTHEST` with the constrained discrepancy.
    random_seed : int
        Of the uninformative discrepancy, which is drawn where there are no data.

    Returns
    -------
    array, shape (chain x draw, n)

    Notes
    -----
    The uninformative discrepancy given a draw of theta, sd and length scale is the Gaussian process
    conditioned on the residuals of all instruments (Rasmussen & Williams 2006, section 2.2).
    """
    efforts = np.asarray(efforts, dtype=float)
    draws = tree["posterior"].to_dataset().stack(sample=("chain", "draw"))
    work = draws["theta"].values[:, None] * efforts
    if "bend" in draws:
        return (
            work - np.exp(draws["bend"].transpose("sample", ...).values) @ loss_weights(efforts).T
        )
    if "discrepancy_sd" in draws:
        work = work + _process_at(tree, draws, efforts, np.random.default_rng(random_seed))
    return work


def _process_at(tree: xr.DataTree, draws: xr.Dataset, efforts: np.ndarray, rng) -> np.ndarray:
    """Return draws of the process at some efforts, given the data and every draw."""
    measured = tree["observed_data"].to_dataset()
    at = measured["effort"].values
    mean = np.mean([work.values for work in measured.data_vars.values()], axis=0)
    noise = NOISE**2 / len(measured.data_vars) * np.eye(at.size)  # of the mean of all instruments
    among, across, new = (
        np.abs(np.subtract.outer(a, b)) for a, b in ((at, at), (at, efforts), (efforts, efforts))
    )
    names = ("theta", "discrepancy_sd", "discrepancy_length_scale")
    found = []
    for theta, sd, length in zip(*(draws[name].values for name in names), strict=True):
        beside = sd**2 * matern(across / length)
        solved = np.linalg.solve(sd**2 * matern(among / length) + noise, beside)
        left = sd**2 * (matern(new / length) + ROUNDING * np.eye(efforts.size)) - beside.T @ solved
        scatter = np.linalg.cholesky(left) @ rng.standard_normal(efforts.size)
        found.append(solved.T @ (mean - theta * at) + scatter)
    return np.array(found)
