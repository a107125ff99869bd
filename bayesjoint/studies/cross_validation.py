"""Data left out group by group, predicted from all others without sampling again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from bayesjoint import _arguments, arrays
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import threads_for
from bayesjoint._kernels.prediction import region_probability
from bayesjoint._names import labelled, marked, user
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.reports._smoothed import smoothed_weights

OWNER = "leave_out"
PREDICTED_DRAWS = 4_000
NOTHING = (np.zeros((PREDICTED_DRAWS, 0)), np.nan, np.nan)  # of a group without data


@labelled
def leave_out(
    problem: JointProblem,
    posterior: xr.DataTree,
    modality: str | Sequence[str],
    dim: str,
    *,
    draws: int = 400,
    random_seed: int | None = None,
    refitted: Mapping[Any, xr.DataTree] | None = None,
) -> xr.Dataset:
    """Return what all other data predict for each group of data of one modality, or of several.

    Where errors are correlated, a datum is known from its neighbours: leave out together what
    belongs together, such as all components of a station.

    Parameters
    ----------
    problem : JointProblem
    posterior : DataTree
        From `sample`, of this problem.
    modality : str or sequence of str
        Several have data of the same dims and shape.
    dim : str
        The data at one index of this dim of all these modalities are left out together, in turn.
    draws : int
        Draws of the posterior that are used, evenly spaced.
    random_seed : int, optional
        Makes the result repeatable.
    refitted : mapping of label to DataTree, optional
        Posteriors sampled without the group of that label along the dim, used in place of weights
        where these fail.

    Returns
    -------
    Dataset
        ``predicted`` (sample, dims of the data): draws of the left-out data given all others,
        discrepancy and noise included; ``measured``, both with the dim ``modality`` in front where
        several are named; and on ``dim``: ``log_density`` of the measured group in that
        prediction; ``region_probability``, of the ellipsoid about the mean prediction that just
        holds the measured group: uniform where predictions are honest, and below 0.9 for nine
        groups of ten; and ``pareto_k``: where it is above 0.7, the group moves the posterior too
        far for this, sample without it; infinite where weights of a chain that stood still
        repeat, so that nothing tells how far; NaN where refitted.  Missing data are NaN, and so
        are the numbers of a group without any datum.

    Raises
    ------
    ValueError
        When there is no such modality or dim, several differ in shape or power, a refitted label
        is not along the dim, the noise of a modality is not Gaussian, or there are fewer than 25
        draws to weigh.

    Notes
    -----
    Given the unknowns of a draw, errors are Gaussian with the precision ``P = C^-1``, and a group
    given all other data has covariance ``P_ss^-1`` and mean ``y_s - P_ss^-1 (P r)_s``, with
    residuals ``r``.  The posterior without the group follows by importance sampling: weights
    ``1 / p(y_s | m, y_rest)`` (to the power of a tempered modality), smoothed by a Pareto tail
    (Vehtari et al. 2024, JMLR 25:72).  For single data this is the leave-one-out of Bürkner, Gabry
    & Vehtari (2021, doi 10.1007/s00180-020-01045-4).

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> data = xr.DataArray([0.1, -0.2, 0.3], dims="gauge")
    >>> gauges = bj.Modality(
    ...     "gauges", data, bj.linear_map(np.ones((3, 1)), "level"), bj.GaussianNoise(sd=0.5)
    ... )
    >>> problem = bj.JointProblem(latents=[level], modalities=[gauges])
    >>> tree = bj.sample(
    ...     problem, draws=200, chains=2, random_seed=1, progress=False, backend="interpreted"
    ... )
    >>> left_out = bj.leave_out(problem, tree, "gauges", "gauge", random_seed=1)
    >>> left_out["predicted"].dims
    ('sample', 'gauge')
    """
    require_problem(problem)
    owner = "leave_out"
    _arguments.check(owner, posterior=posterior, modality=modality, dim=dim, draws=draws)
    _arguments.check_given(owner, random_seed=random_seed)
    refitted = _arguments.trees(owner, "refitted", refitted)
    names = [modality] if isinstance(modality, str) else list(modality)
    measured = _measured(problem, names, dim)
    again = _by_position(measured, dim, refitted or {})
    with compiled(problem) as functions, threads_for(functions.size + functions.rank):
        groups = _groups(functions, names, dim)
        found: dict[int, Any] = {}
        for which, members in _of_one_size(groups):
            gaps = zip(*_gaps(functions, posterior, draws, members), strict=True)
            found |= dict(zip(which.tolist(), gaps, strict=True))
        for i, tree in again.items():
            members = groups[[i]][:, groups[i] >= 0]
            if i in found:
                found[i] = tuple(part[0] for part in _gaps(functions, tree, draws, members))
    rng, power = np.random.default_rng(random_seed), problem.modality[names[0]].power
    powers = [None if i in again else power for i in range(len(groups))]
    parts = [
        _predict(found[i], power, rng) if i in found else NOTHING for i, power in enumerate(powers)
    ]
    one = measured.isel(modality=0, drop=True)
    return _labelled(measured if len(names) > 1 else one, user(dim), parts)


def _gaps(
    functions: ModelFunctions, tree: xr.DataTree, draws: int, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return gap (group, draw, member) and covariance of groups given the rest, draw by draw."""
    points = functions.once(LatentSpace).points_of_draws(tree["posterior"].to_dataset(), draws)
    found = [given_the_rest(functions, point, groups) for point in points]
    gap, covariance = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return gap, covariance


def given_the_rest(
    functions: ModelFunctions, point: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return measured minus expected (group, member) and covariance of groups given all others.

    ``groups`` (group, member) are indices into the stacked data of all modalities.
    """
    size, count = functions.data.size, groups.size
    columns = np.zeros((size, count + 1))
    columns[groups.ravel(), np.arange(count)] = 1.0
    columns[:, -1] = functions.residual(point)
    columns = functions.rotate(columns)
    solved = columns[:, :count].T @ functions.errors(point).solve(columns)
    within = np.arange(count).reshape(groups.shape)
    precision = solved[within[:, :, None], within[:, None, :]]
    covariance = np.linalg.inv(precision)
    return (covariance @ solved[within, -1][:, :, None])[:, :, 0], covariance


def _predict(given: tuple[np.ndarray, np.ndarray], power: float | None, rng: Any):
    """Return draws of predicted minus measured, log-density of the measured, and Pareto's k.

    Without a power, draws come from a posterior without the group: all weigh the same.
    """
    gap, covariance = given
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, gap[:, :, None])[:, :, 0]
    density = -0.5 * np.sum(white**2 + np.log(2 * np.pi), axis=1)
    density -= np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    log_weights, pareto_k = np.zeros(density.size), np.nan
    if power is not None:
        log_weights, pareto_k = smoothed_weights(power * density, OWNER)
    weights = np.exp(log_weights - np.max(log_weights))
    weights /= weights.sum()
    even = (np.arange(PREDICTED_DRAWS) + rng.random()) / PREDICTED_DRAWS
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), even), weights.size - 1)
    noise = rng.standard_normal((PREDICTED_DRAWS, gap.shape[1], 1))
    draws = (root[chosen] @ noise)[:, :, 0] - gap[chosen]
    return draws, float(logsumexp(density, b=weights)), pareto_k


def _measured(problem: JointProblem, names: Sequence[str], dim: str) -> xr.DataArray:
    """Return the data of the modalities along a dim ``modality``, after checking them."""
    for name in names:
        if name not in problem.modality:
            raise ValueError(f"leave_out: no modality {name!r}; there are {list(problem.modality)}")
        if dim not in problem.modality[name].data.dims:
            found = problem.modality[name].data.dims
            raise ValueError(f"leave_out: modality {name!r} has no dim {dim!r}, but {found}")
    for other in problem.modalities:
        if not other.noise.is_normal:
            raise ValueError(
                f"leave_out: the noise of modality {other.name!r} is not Gaussian; sample without "
                "each group instead"
            )
    chosen = [problem.modality[name] for name in names]
    alike = {(m.data.dims, m.data.shape, m.power) for m in chosen}
    if len(alike) > 1:
        raise ValueError(f"leave_out: {', '.join(names)} differ in dims, shape or power: {alike}")
    values = np.stack([m.data.values for m in chosen])
    data = marked(chosen[0].data)
    shared = {k: c for k, c in data.coords.items() if len(names) == 1 or k == user(dim)}
    coords = {"modality": list(names), **shared}
    return xr.DataArray(values, coords, ("modality", *data.dims), attrs=data.attrs)


def _by_position(measured: xr.DataArray, dim: str, refitted: Mapping[Any, Any]) -> dict[int, Any]:
    """Return the refits by position along the dim."""
    labels = measured[user(dim)].to_index()  # in which dates are dates
    found = {label: labels.get_indexer_for([label]) for label in refitted}
    unknown = [label for label, where in found.items() if len(where) != 1 or where[0] < 0]
    if unknown:
        raise ValueError(
            f"leave_out: no {dim} is labelled {', '.join(map(arrays.plain, unknown))}; there are "
            f"{', '.join(map(arrays.plain, labels))}"
        )
    return {int(found[label][0]): tree for label, tree in refitted.items()}


def _groups(functions: ModelFunctions, names: Sequence[str], dim: str) -> np.ndarray:
    """Return indices of the stacked data, shape (group, member), -1 of those that are missing."""
    parts = []
    for name in names:
        modality, where = functions.problem.modality[name], functions.data_slices[name]
        data = modality.whole.data
        index = np.full(data.size, -1)
        index[modality.places] = np.arange(where.start, where.stop)
        index = index.reshape(data.shape)
        parts.append(np.moveaxis(index, data.dims.index(dim), 0).reshape(data.sizes[dim], -1))
    return np.concatenate(parts, axis=1)


def _of_one_size(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which groups have equally many data, and their members, for each number above zero."""
    counts = np.sum(groups >= 0, axis=1)
    for count in np.unique(counts[counts > 0]):
        which = np.flatnonzero(counts == count)
        chosen = groups[which]
        yield which, chosen[chosen >= 0].reshape(-1, count)


def _labelled(data: xr.DataArray, dim: str, parts: list) -> xr.Dataset:
    """Return what is predicted on the dims of the data; parts are groups along the dim."""
    errors, log_density, pareto_k = zip(*parts, strict=True)
    first = data.transpose(dim, ...)
    shape = (PREDICTED_DRAWS, *first.shape)
    there = first.notnull().values.reshape(len(errors), -1)
    together = np.full((PREDICTED_DRAWS, *there.shape), np.nan)
    probability = np.full(len(errors), np.nan)
    for i, members in enumerate(there):
        if members.any():
            together[:, i, members] = errors[i]
            zeros = np.zeros((1, errors[i].shape[1]))
            probability[i] = region_probability(errors[i][:, None], zeros)[0]
    error = xr.DataArray(together.reshape(shape), dims=("sample", *first.dims))
    predicted = (error + data).transpose("sample", *data.dims)
    return xr.Dataset(
        {
            "predicted": predicted.assign_attrs(data.attrs),
            "measured": data,
            "log_density": (dim, list(log_density)),
            "region_probability": (dim, probability),
            "pareto_k": (dim, list(pareto_k)),
        }
    )
