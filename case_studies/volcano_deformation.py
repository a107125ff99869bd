"""Campi Flegrei: are the intervals honest?  Every GNSS station predicted from all other data.

Run as a program it prints, for both kinds of errors, how often the three components of a station
fall together into the 50 and 90 % region that all other data predict for them (half an hour or
more on two cores: stations whose importance weights fail are predicted by refits)::

    python case_studies/volcano_deformation.py [DATA]
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

import bayesjoint as bj

NO_INFORMATION = 1e3  # m: noise sd of a station that is only predicted
APART = "predicted_station"
LEVELS = (0.5, 0.9)
TRUSTED_K = 0.7  # Pareto k up to which importance weights are trusted


def load_model():
    """Return the module ``models/volcano_deformation.py``."""
    path = Path(__file__).resolve().parents[1] / "models" / "volcano_deformation.py"
    spec = spec_from_file_location("volcano_deformation_model", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def thin(scenes: Mapping[str, xr.Dataset], every: int) -> dict[str, xr.Dataset]:
    """Return the data sets with one of so many pixels of each track, and all stations."""
    return {
        name: scene.isel({dim: slice(None, None, every) for dim in scene.dims if "pixel" in dim})
        for name, scene in scenes.items()
    }


def set_apart(scenes: Mapping[str, xr.Dataset], station: int) -> dict[str, xr.Dataset]:
    """Return the data sets with one GNSS station apart, which then says nothing about the source.

    It becomes the data set ``predicted_station``, with noise so large that it is only predicted.

    Raises
    ------
    ValueError
        If there is no such station.
    """
    gnss = scenes["gnss"]
    if station not in gnss.station:
        raise ValueError(f"there is no station {station}; there are {gnss.station.values.tolist()}")
    alone = gnss.sel(station=[station]).rename(station="predicted")
    alone["sd"] = alone.sd * 0 + NO_INFORMATION
    return {**scenes, "gnss": gnss.drop_sel(station=station), APART: alone}


def predict_station(
    model,
    scenes: Mapping[str, xr.Dataset],
    station: int,
    *,
    errors: str = "correlated",
    rank: int = 200,
    random_seed: int = 0,
    **sampling,
) -> np.ndarray:
    """Return draws of what a station would have measured, given all other data.

    The model is refitted without the station: no approximation but the finite number of draws.

    Parameters
    ----------
    model : module
        From `load_model`.
    scenes : mapping of str to Dataset
        From its `load`.
    station : int
        Number of the station, from 1.
    errors, rank
        As in the model's `problem`.
    random_seed, **sampling
        Of `bayesjoint.sample`.

    Returns
    -------
    ndarray, shape (draw, 3)
        East, north and up with unmodelled displacement and noise, m.
    """
    problem = model.problem_of(set_apart(scenes, station), errors=errors, rank=rank)
    settings = {"progress": False, **sampling}
    posterior = bj.sample(problem, random_seed=random_seed, **settings)["posterior"].to_dataset()
    flat = posterior.stack(sample=("chain", "draw")).transpose("sample", ...)
    displacement = flat[f"{APART}_response"].values[:, 0]
    if f"{APART}_discrepancy" in flat:
        displacement = displacement + flat[f"{APART}_discrepancy"].values[:, 0]
    stated = scenes["gnss"].sd.sel(station=station).values
    scale = flat["gnss_scale"].values[:, None] if "gnss_scale" in flat else 1.0
    rng = np.random.default_rng(random_seed)
    return displacement + scale * stated * rng.standard_normal(displacement.shape)


def region_level(draws: np.ndarray, measured: np.ndarray) -> float:
    """Return the probability of the elliptical region of draws that just reaches the measurement.

    Ellipsoids of the draws' mean and covariance; at level 0.5 the measurement is on the edge of
    the region that holds half of the draws.

    Examples
    --------
    >>> ring = np.array([[1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0], [0, 0.1], [0, -0.1]])
    >>> region_level(ring, np.array([0.0, 0.5]))
    0.3333333333333333
    """
    centre = draws.mean(axis=0)
    root = np.linalg.cholesky(np.cov(draws.T))
    radius = np.linalg.norm(np.linalg.solve(root, (draws - centre).T), axis=0)
    return float(np.mean(radius < np.linalg.norm(np.linalg.solve(root, measured - centre))))


def coverage(levels: Sequence[float], nominal: float) -> tuple[int, float, float]:
    """Return how many levels are within the nominal region, and the interval of that share.

    The interval is exact binomial at 95 % (Clopper & Pearson 1934).

    Examples
    --------
    >>> inside, low, high = coverage([0.1, 0.4, 0.95, 0.6], 0.5)
    >>> inside, round(low, 2), round(high, 2)
    (2, 0.07, 0.93)
    """
    inside = int(np.sum(np.asarray(levels) < nominal))
    interval = stats.binomtest(inside, len(levels)).proportion_ci(0.95, method="exact")
    return inside, float(interval.low), float(interval.high)


def sample(model, scenes: Mapping[str, xr.Dataset], errors: str, rank: int = 200, **sampling):
    """Return problem and posterior of all data; settings are those of `bayesjoint.sample`."""
    problem = model.problem_of(scenes, errors=errors, rank=rank)
    return problem, bj.sample(problem, **{"progress": False, "random_seed": 1, **sampling})


def leave_one_station_out(
    problem: bj.JointProblem,
    posterior: xr.DataTree,
    refit: Callable[[int], np.ndarray] | None = None,
    draws: int = 400,
) -> xr.Dataset:
    """Return how well every station is predicted from all other data.

    The posterior without a station follows from the one with it by importance sampling
    (`bayesjoint.leave_out`).  Where that cannot be trusted the station is predicted by a refit.

    Parameters
    ----------
    problem, posterior
        From `sample`.
    refit : callable, optional
        Gives draws of what a station would have measured, as `predict_station` does; without it
        importance sampling has to do.
    draws : int
        Draws of the posterior that are used.

    Returns
    -------
    Dataset
        On station: ``level`` of the region that just reaches the measurement (uniform on 0 to 1
        where the intervals are honest), ``pareto_k`` of the importance weights, ``refitted``; on
        (station, component): ``error`` of the predicted mean and predicted ``sd``, m.
    """
    left_out = bj.leave_out(problem, posterior, "gnss", "station", draws=draws, random_seed=1)
    refitted = (left_out.pareto_k > TRUSTED_K) & (refit is not None)
    level, error, sd = [], [], []
    for station, again in zip(left_out.station.values, refitted.values, strict=True):
        one = left_out.sel(station=station)
        predicted = refit(int(station)) if again else one.predicted.values
        level.append(region_level(predicted, one.measured.values))
        error.append(one.measured.values - predicted.mean(axis=0))
        sd.append(predicted.std(axis=0))
    dims, metres = ("station", "component"), {"units": "m"}
    return left_out[["measured", "pareto_k"]].assign(
        level=("station", level),
        refitted=refitted,
        error=(dims, error, metres),
        sd=(dims, sd, metres),
    )


def main() -> None:
    """Print the coverage with both kinds of errors."""
    model = load_model()
    scenes = model.load(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    for errors in ("independent", "correlated"):
        problem, posterior = sample(model, scenes, errors, draws=400, tune=250, chains=2)
        again = partial(predict_station, model, scenes, errors=errors, draws=300, chains=2)
        study = leave_one_station_out(problem, posterior, again)
        rms = 1e3 * np.sqrt((study.error**2).mean("station")).values
        sys.stdout.write(f"{errors} errors, rms error of prediction {rms.round(1)} mm\n")
        for nominal in LEVELS:
            inside, low, high = coverage(study.level.values, nominal)
            count = study.sizes["station"]
            sys.stdout.write(f"  {nominal:.0%}: {inside} of {count}, {low:.0%} to {high:.0%}\n")
        sys.stdout.write(f"  refitted: {int(study.refitted.sum())} stations\n")


if __name__ == "__main__":
    main()
