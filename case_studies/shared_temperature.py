"""Errors that two channels share: closed forms, and how often intervals hold the truth.

All is linear and Gaussian but the calibration that makes the data, so every posterior has a closed
form.  Run as a program it prints the study of replicated data (a minute)::

    python case_studies/shared_temperature.py
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import bayesjoint as bj

LEVEL = 0.90
FLAT = 1e4  # sd of a prior that says nothing


def load_model():
    """Return the module ``models/shared_temperature.py``."""
    path = Path(__file__).resolve().parents[1] / "models" / "shared_temperature.py"
    spec = spec_from_file_location("shared_temperature_model", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


model = load_model()


# --- closed forms --------------------------------------------------------------------------------


def design(scenes: int, scans: int) -> np.ndarray:
    """Return the matrix from temperatures, then vapour, of the scenes to channel 4, then 5."""
    which = np.kron(np.eye(scenes), np.ones((scans, 1)))
    rows = [np.hstack([which, -absorbed * which]) for absorbed in model.ABSORPTION.values()]
    return np.vstack(rows)


def covariance(scenes: int, scans: int, errors: str = "shared", channels: float = 1.0):
    """Return the covariance of the errors of channel 4, then 5.

    Parameters
    ----------
    scenes, scans : int
    errors : str
        One of the model's ``ERRORS``.
    channels : float
        Correlation between the common errors of the channels, 1 where the cause is one.
    """
    loads = model.BLACK_BODY_SD * np.array(list(model.loadings().values()))
    between = np.outer(loads, loads) * np.array([[1.0, channels], [channels, 1.0]])
    along = model.correlation(model.schedule(scenes, scans)["time"].values)
    if errors == "independent":
        between, along = np.diag(loads**2), np.eye(scenes * scans)
    noise = model.DETECTOR_SD**2 * np.eye(2 * scenes * scans)
    return noise if errors == "none" else np.kron(between, along) + noise


def prior_of(scenes: int, vapour_sd: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return prior mean and sd of temperatures, then vapour, of the scenes."""
    priors = model.PRIORS.values()
    mean, sd = (np.repeat([p[key] for p in priors], scenes) for key in ("mu", "sigma"))
    sd = np.where(np.arange(2 * scenes) < scenes, sd, vapour_sd or sd)
    return mean, sd


def gain(matrix: np.ndarray, errors: np.ndarray, prior_sd: np.ndarray):
    """Return the matrix from data to posterior mean, and the posterior covariance.

    Examples
    --------
    >>> _, posterior = gain(np.ones((2, 1)), np.eye(2) + 1.0, np.array([1e6]))
    >>> round(float(posterior[0, 0]), 6)  # a common variance of 1, and half of the own
    1.5
    """
    solved = np.linalg.solve(errors, matrix)
    posterior = np.linalg.inv(matrix.T @ solved + np.diag(prior_sd**-2.0))
    return posterior @ solved.T, posterior


def averaging(counts, *, over: str = "scans", fixed: int = 1) -> xr.Dataset:
    """Return what is stated, and what is true, of a mean temperature, with a flat prior.

    Parameters
    ----------
    counts : sequence of int
        How many scans of each scene, or how many scenes around the orbit.
    over : {"scans", "scenes"}
        Which; the mean is over all scenes.
    fixed : int
        Number of the other.

    Returns
    -------
    Dataset
        Over ``count`` and ``errors``: the ``stated`` posterior sd, K, and the ``actual`` sd when
        the errors are shared.
    """
    stated, actual = [], []
    for count in counts:
        shape = {"scenes": fixed, "scans": fixed} | {over: count}
        matrix, true = design(**shape), covariance(**shape)
        mean = np.repeat([1.0 / shape["scenes"], 0.0], shape["scenes"])
        for errors in model.ERRORS:
            assumed = covariance(**shape, errors=errors)
            weights, posterior = gain(matrix, assumed, np.full(mean.size, FLAT))
            stated.append(np.sqrt(mean @ posterior @ mean))
            actual.append(np.sqrt(mean @ weights @ true @ weights.T @ mean))
    table = {"stated": stated, "actual": actual}
    dims = ("count", "errors")
    return xr.Dataset(
        {name: (dims, np.reshape(values, (-1, 3))) for name, values in table.items()},
        coords={"count": list(counts), "errors": list(model.ERRORS)},
    )


def split_window() -> np.ndarray:
    """Return the weights of channels 4 and 5 that give the temperature whatever the vapour.

    Examples
    --------
    >>> split_window()  # T4 + 2.5 (T4 - T5)
    array([ 3.5, -2.5])
    """
    fourth, fifth = model.ABSORPTION.values()
    weight = fourth / (fifth - fourth)
    return np.array([1.0 + weight, -weight])


def floor(whole_orbit: bool = False) -> float:
    """Return the sd that no number of scans, or of scenes around the orbit, averages away."""
    times = np.linspace(0.0, model.ORBIT, 400, endpoint=False)
    share = model.correlation(times).mean() if whole_orbit else 1.0
    common = split_window() @ list(model.loadings().values())
    return model.BLACK_BODY_SD * float(common * np.sqrt(share))


def watched(
    when: str, thermometer_sd: float, thermometer_bias: float, scenes: int = 8, scans: int = 10
) -> np.ndarray:
    """Return the posterior covariance of temperatures, then vapour, with the second thermometer."""
    times = model.schedule(scenes, scans)["time"].values
    seen = {"no": 0, "partly": (scenes + 1) // 2, "always": scenes}[when]
    count, every = seen * scans, np.eye(scenes * scans)
    loads = np.array(list(model.loadings().values()))
    causes = np.vstack([np.kron(loads[:, None], every), every[:count]])
    total = model.BLACK_BODY_SD**2 * causes @ model.correlation(times) @ causes.T
    own = np.repeat([model.DETECTOR_SD, thermometer_sd], [2 * scenes * scans, count])
    total += np.diag(own**2)
    total[own.size - count :, own.size - count :] += thermometer_bias**2
    matrix = np.vstack([design(scenes, scans), np.zeros((count, 2 * scenes))])
    return gain(matrix, total, prior_of(scenes)[1])[1]


def correlated_sd(
    correlation: float, vapour_sd: float, scenes: int = 1, scans: int = 10
) -> np.ndarray:
    """Return posterior sds of temperatures, K, then vapour, g/cm2, known a priori to an sd.

    The common errors of the channels have another correlation, as with two black bodies.
    """
    errors, prior = covariance(scenes, scans, channels=correlation), prior_of(scenes, vapour_sd)[1]
    return np.sqrt(np.diag(gain(design(scenes, scans), errors, prior)[1]))


# --- posteriors of the toolkit -------------------------------------------------------------------


def with_correlation(problem: bj.JointProblem, rho: float, vapour_sd: float) -> bj.JointProblem:
    """Return the problem when its channels' common errors have another correlation.

    The vapour is known a priori to ``vapour_sd``, g/cm2.
    """
    sds = {name: model.BLACK_BODY_SD * load for name, load in model.loadings().items()}
    surface, vapour = problem.latents
    prior = bj.Prior(vapour.prior.distribution, mu=vapour.prior.parameters["mu"], sigma=vapour_sd)
    known = bj.Parameter("vapour", prior, units=vapour.units, coords=vapour.coords)
    return problem.replace(
        latents=[surface, known], discrepancy=model.black_body(sd=sds, correlation=rho)
    )


def posterior_sd(problem: bj.JointProblem, tree: xr.DataTree | None = None) -> pd.Series:
    """Return the posterior sd of every temperature and vapour, by linearisation, made or given."""
    priors = {p.name: p.prior.parameters for p in problem.latents}
    if tree is None:
        # Linear and Gaussian: the same at every point, so that none need be searched for.
        at = {p.name: np.full(p.shape, priors[p.name]["mu"]) for p in problem.latents}
        tree = bj.linearize(problem, at=at)
    left = 1.0 - bj.identifiability(tree)["contraction"].to_series()
    sd = np.concatenate([np.full(p.shape, priors[p.name]["sigma"]) for p in problem.latents])
    return np.sqrt(left) * sd


# --- replicates ----------------------------------------------------------------------------------


def coverage(counts=(1, 10, 100), scenes: int = 8, replicates: int = 200, seed: int = 1):
    """Return how the three models of the errors fare on replicated data, from the full calibration.

    Returns
    -------
    DataFrame
        Rows (quantity, errors, scans): the ``stated`` sd, the root mean square ``actual`` error,
        and the share of 90 % intervals ``covered`` the truth.  Quantities: ``scene``, the
        temperature of the first; ``orbit``, the mean of all; ``contrast``, that of the first and
        its neighbour; ``vapour`` of the first.
    """
    unit = np.eye(2 * scenes)
    combinations = {
        "scene": unit[0],
        "orbit": unit[:scenes].mean(axis=0),
        "contrast": unit[0] - unit[1],
        "vapour": unit[scenes],
    }
    half, rows = stats.norm.ppf(0.5 + LEVEL / 2), {}
    for scans in counts:
        data, truth = _replicates(scenes, scans, replicates, seed)
        matrix, (mean, sd) = design(scenes, scans), prior_of(scenes)
        for errors in model.ERRORS:
            weights, posterior = gain(matrix, covariance(scenes, scans, errors), sd)
            off = mean + (data - matrix @ mean) @ weights.T - truth
            for quantity, combination in combinations.items():
                stated, missed = np.sqrt(combination @ posterior @ combination), off @ combination
                rows[quantity, errors, scans] = {
                    "stated": stated,
                    "actual": np.sqrt((missed**2).mean()),
                    "covered": (np.abs(missed) < half * stated).mean(),
                }
    return pd.DataFrame(rows).T.rename_axis(["quantity", "errors", "scans"]).sort_index()


def _replicates(scenes: int, scans: int, replicates: int, seed: int):
    """Return simulated data (replicate, datum) and truths (replicate, unknown)."""
    runs = [model.simulate(scenes, scans, seed=[seed, k]) for k in range(replicates)]
    data, truth = (
        np.array([np.concatenate([run[name].values for name in names]) for run in runs])
        for names in (model.WAVENUMBERS, model.PRIORS)
    )
    return data, truth


if __name__ == "__main__":
    print(coverage().round(3).to_string())
