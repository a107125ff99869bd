"""Two volcanoes: whether GNSS and radar contradict each other, and whether intervals are honest.

Run as a program it prints, for Campi Flegrei and for Unimak and for each kind of source, whether
the data sets contradict each other under several kinds of errors; then how often the three
components of a station of Campi Flegrei fall together into the 50 and 90 % region that all other
data predict for them (an hour or more on two cores; stations whose importance weights fail are
predicted by refits); at last whether they contradict each other with errors of instruments, all
fits repeated on simulated data (an hour)::

    python case_studies/volcano_deformation.py [DATA]
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

import bayesjoint as bj

LEVELS = (0.5, 0.9)
TRUSTED_K = 0.7  # Pareto k up to which importance weights are trusted
MODES = {"campi_flegrei": 60, "unimak": 200}  # kept of each component, where contradiction is told
REFITS = 40  # simulated data sets that are fitted anew: half a minute each
KINDS = {  # of errors, those that data sets share last
    "independent": "stated errors, tempered as published",
    "separate": "a field of displacement for each data set",
    "one_number": "data space, one correlation number",
    "correlated": "model space, one field of displacement",
}


def load_model():
    """Return the module ``models/volcano_deformation.py``."""
    path = Path(__file__).resolve().parents[1] / "models" / "volcano_deformation.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # the model lies in several files
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


def near_points(scenes: Mapping[str, xr.Dataset], widest: float = 2e3) -> dict[str, xr.Dataset]:
    """Return the data sets without means over blocks wider than that, m.

    Above a source at depth d the mean over a width w is ``w² / 4d²`` of the displacement less than
    its value in the middle: at Westdahl 0.2 mm/yr for 2 km, 0.9 for 4 km, against a noise of 1.
    """
    return {
        name: scene.isel({scene.width.dims[0]: scene.width.values < widest})
        if "width" in scene
        else scene
        for name, scene in scenes.items()
    }


# --- contradiction -------------------------------------------------------------------------------


def contradiction(
    problem: bj.JointProblem,
    starts: int = 4,
    random_seed: int = 1,
    refits: int = 0,
    executor: Executor | None = None,
) -> tuple[xr.Dataset, dict]:
    """Return whether the data sets contradict each other, and the fits that say so.

    Joint problem and split problem, in which every data set has a source of its own, are linearised
    at their best fits, looked for from so many starts; the p-value is that of simulated consistent
    data, to which both problems are fitted anew where ``refits`` says how many: sizes of errors are
    unknown, and the split fit takes them for smaller.  The joint fit may take a contradiction for
    larger errors: of ``problem.hold(joint)`` the split problem has the same errors, and is asked
    for more.

    Returns
    -------
    report : Dataset
        Of `bayesjoint.tension`; its sentences are the attribute ``words``.
    fits : dict
        ``joint``, ``split`` and ``null``, to draw them with `bayesjoint.plot_tension`.
    """
    search = {"starts": starts, "backend": "interpreted"}
    joint, split = (bj.linearize(p, **search) for p in (problem, problem.split()))
    again = {"refit": True, "replicates": refits, "executor": executor} if refits else {}
    null = bj.tension_null(problem, at=joint, random_seed=random_seed, **again)
    fits = {"joint": joint, "split": split, "null": null}
    return bj.tension(joint, split, null), fits


def consistent_twin(
    problem: bj.JointProblem, joint: xr.DataTree, random_seed: int = 1
) -> bj.JointProblem:
    """Return the problem with simulated data that one source explains: a control by construction.

    Source and sizes of errors are those of a fit; noise and unmodelled displacement are drawn.
    """
    best = joint["linearization"].to_dataset()
    names = [*best.attrs["latents"], *best.attrs["hyperparameters"]]
    data = bj.simulate(problem, truth={n: best[n].values for n in names}, random_seed=random_seed)
    return problem.with_data(data[list(problem.modality)])


def collocated(scenes: Mapping[str, xr.Dataset], radius: float) -> xr.DataArray:
    """Return radar minus GNSS along the line of sight, without any model of a source.

    Parameters
    ----------
    scenes : mapping of str to Dataset
        From `load`.
    radius : float
        Pixels this near to a station are averaged, m.

    Returns
    -------
    DataArray
        On (track, station), in the units of the data, less the median of the track, which is
        relative to an unknown reference; NaN where no pixel is near.
    """
    rows = []
    for seen, expected in _beside_stations(scenes, radius).values():
        gap = seen - expected
        rows.append(gap - np.nanmedian(gap))
    gnss = scenes["gnss"]
    coords = {"track": [name for name in scenes if name != "gnss"], "station": gnss.station}
    return xr.DataArray(np.stack(rows), coords, attrs=gnss.displacement.attrs)


def seen_share(scenes: Mapping[str, xr.Dataset], radius: float) -> xr.Dataset:
    """Return how much radar sees of what GNSS sees along the line of sight, up to a constant.

    Arguments as of `collocated`.  A line by least squares through the stations that have pixels.

    Returns
    -------
    Dataset
        On track: ``share``, one where both measured the same motion, and its ``sd``.
    """
    found = {}
    for track, (seen, expected) in _beside_stations(scenes, radius).items():
        known = np.isfinite(seen)
        line = stats.linregress(expected[known], seen[known])
        found[track] = (line.slope, line.stderr)
    share, sd = np.array(list(found.values())).T
    return xr.Dataset({"share": ("track", share), "sd": ("track", sd)}, {"track": list(found)})


def _beside_stations(
    scenes: Mapping[str, xr.Dataset], radius: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return of each track what radar sees near stations, NaN where nothing, and what GNSS does."""
    gnss, found = scenes["gnss"], {}
    for track in [name for name in scenes if name != "gnss"]:
        scene = scenes[track]
        away = np.hypot(
            *(scene[a].values - gnss[a].values[:, None] for a in ("easting", "northing"))
        )
        near = away < radius  # (station, pixel)
        share = near / np.maximum(near.sum(axis=1, keepdims=True), 1)
        seen, look = share @ scene.displacement.values, share @ scene.look.values[:, 0]
        expected = np.sum(look * gnss.displacement.values, axis=1)
        found[track] = np.where(near.any(axis=1), seen, np.nan), expected
    return found


# --- one correlation number ----------------------------------------------------------------------


def correlation_between(looks: np.ndarray) -> np.ndarray:
    """Return the correlation of errors seen at one place along unit vectors (look, component).

    The unmodelled displacement has three independent components of one variance, so that the
    errors seen along two directions are correlated by the cosine of their angle: for more than
    three directions a singular matrix, since three numbers are all there is to know.

    Examples
    --------
    >>> correlation_between(np.array([[1.0, 0, 0], [-0.6, 0, 0.8], [0.6, 0, 0.8]])).round(2)
    array([[ 1.  , -0.6 ,  0.6 ],
           [-0.6 ,  1.  ,  0.28],
           [ 0.6 ,  0.28,  1.  ]])
    """
    return looks @ looks.T


def with_one_number(count: int, number: float) -> np.ndarray:
    """Return the correlation matrix in which all pairs are correlated by one number.

    Raises
    ------
    ValueError
        When it is not positive definite: the number must lie between -1 / (count - 1) and 1.

    Examples
    --------
    >>> float(np.linalg.eigvalsh(with_one_number(5, -0.2))[0].round(2))
    0.2
    """
    if not -1 / (count - 1) < number < 1:
        raise ValueError(
            f"{number} for all pairs of {count} is no correlation; use a number between "
            f"{-1 / (count - 1):.3g} and 1"
        )
    return number + (1 - number) * np.eye(count)


def unexplained_share(correlation: np.ndarray, look: np.ndarray, position: int) -> float:
    """Return the variance of a line of sight that is left when all three components are known.

    Parameters
    ----------
    correlation : array
        Of east, north, up, and of lines of sight after them.
    look : array, shape (3,)
        Its unit vector.
    position : int
        Its place in the matrix.

    Returns
    -------
    float
        Variance of ``los - look . (east, north, up)`` in that of one component: 0 in fact.

    Examples
    --------
    >>> look = np.array([-0.6, 0.0, 0.8])
    >>> unexplained_share(correlation_between(np.vstack([np.eye(3), look])), look, 3)
    0.0
    >>> round(unexplained_share(with_one_number(4, 0.5), look, 3), 2)
    1.32
    """
    weights = np.zeros(len(correlation))
    weights[:3], weights[position] = -look, 1.0
    return float(abs((weights @ correlation @ weights).round(12)))


# --- held-out stations ---------------------------------------------------------------------------


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


def without_station(scenes: Mapping[str, xr.Dataset], station) -> dict[str, xr.Dataset]:
    """Return the data sets without one GNSS station.

    Raises
    ------
    ValueError
        If there is no such station.
    """
    gnss = scenes["gnss"]
    if station not in gnss.station:
        raise ValueError(f"there is no station {station}; there are {gnss.station.values.tolist()}")
    return {**scenes, "gnss": gnss.drop_sel(station=station)}


def leave_one_station_out(
    problem: bj.JointProblem,
    posterior: xr.DataTree,
    refit: Callable[[int], xr.DataTree] | None = None,
    draws: int = 400,
) -> xr.Dataset:
    """Return how well every station is predicted from all other data, its components jointly.

    The posterior without a station follows from the one with it by importance sampling
    (`bayesjoint.leave_out`).  Where that cannot be trusted the station is predicted by a refit.

    Parameters
    ----------
    problem, posterior
        From `sample`.
    refit : callable, optional
        Gives the posterior without a station; without it importance sampling has to do.
    draws : int
        Draws of the posterior that are used.

    Returns
    -------
    Dataset
        On station: ``level`` of the region that just reaches the measurement (uniform on 0 to 1
        where the intervals are honest), ``log_density`` of the measurement (nats), ``pareto_k`` of
        the importance weights, ``refitted``; on (station, component): ``error`` of the predicted
        mean and predicted ``sd``, m.
    """
    gnss = [name for name in problem.modality if name.startswith("gnss")]
    predict = partial(bj.leave_out, problem, posterior, gnss, "station", draws=draws, random_seed=1)
    first = left_out = predict()
    failed = first.station[first.pareto_k > TRUSTED_K].values.tolist()
    if refit is not None and failed:
        left_out = predict(refitted={station: refit(station) for station in failed})
    return _levels(left_out).assign(pareto_k=first.pareto_k, refitted=np.isnan(left_out.pareto_k))


def _levels(left_out: xr.Dataset) -> xr.Dataset:
    """Return levels and errors of predicted stations, whose components may be modalities."""
    (other,) = {dim for dim in left_out.measured.dims if left_out.sizes[dim] > 1} - {"station"}
    left_out = left_out.squeeze(drop=True).rename({other: "component"})
    left_out["component"] = [str(name).split("_")[-1] for name in left_out.component.values]
    left_out = left_out.transpose("sample", "station", "component")
    dims, metres = ("station", "component"), {"units": "m"}
    error = left_out.measured - left_out.predicted.mean("sample")
    return left_out[["measured", "log_density"]].assign(
        level=left_out.region_probability,
        error=(dims, error.values, metres),
        sd=(dims, left_out.predicted.std("sample").values, metres),
    )


# --- program -------------------------------------------------------------------------------------


def print_contradictions(model, data: Path | None, every: int = 8) -> None:
    """Print what `contradiction` says for both volcanoes, all sources and errors."""
    for place, rank in MODES.items():
        scenes = thin(model.load(data, place), every)
        for source in model.SOURCES:
            for errors in ("stated", "white", "separate", "correlated"):
                problem = model.problem_of(
                    scenes, place=place, source=source, errors=errors, rank=rank
                )
                title = f"{place}, {source}, {errors} errors"
                report, fits = contradiction(problem)
                _print_words(title, report)
                if errors == "correlated":
                    known = problem.hold(fits["joint"])
                    _print_words(f"{title} of the joint fit", contradiction(known)[0])
                    twin = consistent_twin(problem, fits["joint"])
                    _print_words(f"{title}, simulated twin", contradiction(twin)[0])


def print_refitted(model, data: Path | None, every: int = 8) -> None:
    """Print the same with errors of instruments, all fits repeated on simulated data.

    Means over wide blocks are left out.  At Unimak also with a ratio of rates between the years of
    the radar and those of GNSS.
    """
    for place, rank in MODES.items():
        scenes = thin(near_points(model.load(data, place)), every)
        for own_rates in (False, True) if place == "unimak" else (False,):
            problem = model.problem_of(
                scenes, place=place, errors="instruments", rank=rank, own_rates=own_rates
            )
            report, _ = contradiction(problem, refits=REFITS)
            ratio = ", ratio of rates" if own_rates else ""
            _print_words(f"{place}, errors of instruments{ratio}, refitted", report)


def _print_words(title: str, report: xr.Dataset) -> None:
    sys.stdout.write(f"{title}\n")
    sys.stdout.writelines(f"  {sentence}\n" for sentence in report.attrs["words"])
    sys.stdout.flush()


def print_coverage(model, data: Path | None, every: int = 4, rank: int = 80) -> None:
    """Print how often stations fall into predicted regions, for all kinds of errors."""
    scenes = thin(model.load(data), every)
    settings = {"draws": 200, "tune": 200, "chains": 2, "prior_draws": 20}
    for errors, words in KINDS.items():
        problem, posterior = sample(model, scenes, errors, rank, **settings)

        def refit(station, errors=errors):
            rest = without_station(scenes, station)
            return sample(model, rest, errors, rank, **settings)[1]

        stations = leave_one_station_out(problem, posterior, refit)
        rms = 1e3 * np.sqrt((stations.error**2).mean("station")).values
        sys.stdout.write(f"{words}: rms error of prediction {rms.round(1)} mm\n")
        for nominal in LEVELS:
            inside, low, high = coverage(stations.level.values, nominal)
            count = stations.sizes["station"]
            sys.stdout.write(f"  {nominal:.0%}: {inside} of {count}, {low:.0%} to {high:.0%}\n")
        refitted = stations.station[stations.refitted].values
        sys.stdout.write(f"  log-density {float(stations.log_density.sum()):.1f} nats\n")
        sys.stdout.write(f"  refitted: {refitted}, levels {stations.level.values.round(2)}\n")
        sys.stdout.flush()


def main() -> None:
    """Print contradictions and coverage."""
    model, data = load_model(), Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print_coverage(model, data)
    print_contradictions(model, data)
    print_refitted(model, data)


if __name__ == "__main__":
    main()
