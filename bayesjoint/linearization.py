"""The likelihood-informed spectrum of a problem at a point: the preview without sampling."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from bayesjoint import _mode
from bayesjoint._compile import threads_for
from bayesjoint._density import CompiledDensity, default_backend
from bayesjoint._functions import ModelFunctions
from bayesjoint._information import LocalInformation, local_information
from bayesjoint._kernels.spectra import generalised_pairs, information_gain
from bayesjoint._latent_space import LatentSpace
from bayesjoint.forward import LinearMap
from bayesjoint.latents import GaussianField
from bayesjoint.noise import CorrelatedNoise, GaussianNoise
from bayesjoint.problem import JointProblem

DENSE_LIMIT = 4_000
DRAWS = 20


def linearize(
    problem: JointProblem, at: Any = None, *, starts: int | None = None, backend: str | None = None
) -> xr.DataTree:
    """Return the likelihood-informed spectrum of a problem in the group ``linearization``.

    Parameters
    ----------
    problem : JointProblem
    at : None, mapping or DataTree
        Where: the maximum a posteriori (of the white coordinates, default); values of all latents
        and hyperparameters by name; or a sampled posterior, of which 20 draws are taken along a
        new
        dimension ``point``, whose spread shows how nonlinear the problem is.
    starts : int, optional
        Starts of the search for the maximum.  Default: 1 where all maps are linear, else 16, spread
        evenly over the prior.
    backend : {"numba", "interpreted"}, optional
        How the log-density is compiled; see `sample`.  Default: interpreted for a single start.

    Returns
    -------
    DataTree
        One group, ``linearization``: the pairs of ``H v = lambda (I + Gamma) v``, and what
        resolution, leakage, information and identifiability follow from.  Every report accepts it.

    Raises
    ------
    ValueError
        When values are missing in ``at``, or the problem has too many unknowns for dense matrices.

    Notes
    -----
    ``H = J^T (R + K)^-1 J`` with the discrepancy integrated out, plus the Fisher information on
    unknown scales of the errors; Gamma is the Gauss-Newton Hessian of the couplings.  Spantini et
    al. (2015), doi 10.1137/140977308.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> slope = bj.Parameter("slope", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> line = bj.Modality(
    ...     "line", xr.DataArray([1.0], dims="x"), bj.linear_map(np.array([[1.0]]), "slope"),
    ...     bj.GaussianNoise(sd=0.5),
    ... )
    >>> tree = bj.linearize(bj.JointProblem(latents=[slope], modalities=[line]))
    >>> float(tree["linearization/eigenvalues"][0])
    4.0
    """
    functions = ModelFunctions(problem)
    with threads_for(functions.size + functions.rank):
        if at is None:
            starts = default_starts(problem) if starts is None else starts
            if (backend or ("interpreted" if starts == 1 else default_backend(problem))) == "numba":
                functions.density = CompiledDensity(functions, "numba")
            dataset = linearization_at_mode(functions, starts)[0]
        elif isinstance(at, xr.DataTree):
            if "posterior" not in at.children:
                raise ValueError(
                    "linearize: at= has no group posterior; give the whole tree of bj.sample"
                )
            dataset = _at_draws(functions, at["posterior"].to_dataset())
        elif isinstance(at, Mapping):
            dataset = _at_values(functions, at)
        else:
            raise ValueError(
                "linearize: at= takes None, a mapping of names to values, or a sampled posterior"
            )
    return xr.DataTree.from_dict({"linearization": dataset})


def default_starts(problem: JointProblem) -> int:
    """Return how many starts the search for the maximum takes: few maps have one maximum."""
    return 1 if all(isinstance(m.forward, LinearMap) for m in problem.modalities) else 16


def linearization_at_mode(functions: ModelFunctions, starts: int) -> tuple[xr.Dataset, _mode.Mode]:
    """Return the dataset of the group at the maximum a posteriori, and the maximum."""
    space = _space(functions)
    mode = _mode.maximum_a_posteriori(functions, starts)
    dataset = _at_point(functions, space, mode.point, local_information(functions, mode.point))
    found = {"converged": int(mode.converged), "lower_modes": list(mode.lower_modes)}
    return dataset.assign_attrs(at="map", starts=starts, **found), mode


def _at_draws(functions: ModelFunctions, posterior: xr.Dataset) -> xr.Dataset:
    space = _space(functions)
    points = space.points_of_draws(posterior, DRAWS)
    sets = [_at_point(functions, space, p, local_information(functions, p)) for p in points]
    joined = xr.concat(sets, dim="point", combine_attrs="drop_conflicts", data_vars="all")
    return joined.assign_attrs(at="draws", converged=1)


def _at_values(functions: ModelFunctions, values: Mapping) -> xr.Dataset:
    space = _space(functions)
    point = space.point_of_values(values)
    dataset = _at_point(functions, space, point, local_information(functions, point))
    return dataset.assign_attrs(at="values", converged=1)


def _space(functions: ModelFunctions) -> LatentSpace:
    space = LatentSpace(functions)
    if space.size > DENSE_LIMIT:
        raise ValueError(
            f"linearize: {space.size} unknowns; its matrices are dense, up to {DENSE_LIMIT:,}. "
            "Use a coarser grid: halving the cells along each axis of a section quarters them"
        )
    return space


def _at_point(
    functions: ModelFunctions, space: LatentSpace, point: np.ndarray, local: LocalInformation
) -> xr.Dataset:
    scaling = space.scaling(point)  # flat coordinates per white coordinate, (flat, unknown)
    reduce = lambda matrix: scaling.T @ matrix @ scaling  # noqa: E731
    data, coupling = reduce(local.total), reduce(local.coupling)
    precision = np.eye(space.size) + coupling
    eigenvalues, vectors = generalised_pairs(data, precision)
    duals = precision @ vectors
    physical = space.factor(point)  # L, (cell, unknown)
    white = space.white(point)
    per_modality = np.stack(
        [np.einsum("ij,ik,kj->j", vectors, reduce(h), vectors) for h in local.per_modality.values()]
        or [np.zeros((0, space.size))]
    ).reshape(-1, space.size)
    variables = {
        "eigenvalues": ("mode", eigenvalues),
        "eigenvectors": (("unknown", "mode"), vectors),
        "dual_vectors": (("unknown", "mode"), duals),
        "physical_vectors": (("cell", "mode"), physical @ vectors),
        "physical_duals": (("cell", "mode"), space.inverse_transpose(physical) @ duals),
        "prior_sd": (
            "cell",
            np.sqrt(np.einsum("ij,ij->i", physical @ vectors, physical @ vectors)),
        ),
        "prior_precision_diagonal": ("unknown", np.diag(precision)),
        "modality_information": (("modality", "mode"), per_modality),
        "eig_alone": (
            "modality",
            [information_gain(reduce(h), precision) for h in local.alone.values()],
        ),
        "eig_without": (
            "modality",
            [information_gain(reduce(h), precision) for h in local.without.values()],
        ),
        "chi2": ("modality", _chi_squared(functions, point)),
        "n_data": ("modality", [m.data.size for m in functions.problem.modalities]),
        "prior_norm": (
            "latent",
            [float(np.sum(white[w] ** 2)) for w in space.unknown_slices.values()],
        ),
        "prior_distance": ((), float(white @ precision @ white)),
        "data_importance": ("datum", _importance(local, scaling, data + precision)),
        "white_point": ("unknown", white),
        "log_posterior": ((), float(functions.density(point)[0])),
    }
    coords = space.index_coords(functions)
    dataset = xr.Dataset(variables, coords=coords, attrs=_attrs(functions, space))
    return dataset.merge(space.physical_values(point))


def _chi_squared(functions: ModelFunctions, point: np.ndarray) -> list[float]:
    """Return the whitened misfit of each modality under its own block of the errors."""
    errors = functions.errors(point)
    residual = functions.rotate(functions.data - functions.outputs(point)[: functions.data.size])
    return [
        float(residual[where] @ errors.part([index]).solve(residual[where]))
        for index, where in enumerate(functions.data_slices.values())
    ]


def _importance(local: LocalInformation, scaling: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Return the diagonal of ``J (I + Gamma + H)^-1 J^T (R + K)^-1``."""
    jacobian = local.jacobian @ scaling
    if jacobian.shape[0] == 0:
        return np.zeros(0)
    return np.sum(np.linalg.solve(posterior, jacobian.T).T * local.errors.solve(jacobian), axis=1)


def _attrs(functions: ModelFunctions, space: LatentSpace) -> dict[str, Any]:
    problem, build = functions.problem, functions.build
    return {
        "latents": list(problem.latent),
        "hyperparameters": [name for name in space.unknown_slices if name not in problem.latent],
        "modalities": list(problem.modality),
        "couplings": [coupling.name for coupling in problem.couplings],
        "discrepancies": [d.name for d in problem.discrepancies],
        "errors": "correlated"
        if any(len(f.bases) > 1 for f in build.factors.values())
        else "independent",
        "coupled": int(bool(problem.couplings)),
        "powers": [float(m.power) for m in problem.modalities],
        "truncation_bound": 0.0,
        "local": int(bool(problem.couplings) or not _is_linear(problem, space)),
        "pymc_version": pm.__version__,
    }


def _is_linear(problem: JointProblem, space: LatentSpace) -> bool:
    """Return whether the posterior is Gaussian: all is linear, Gaussian and of known scale."""
    latents = all(
        isinstance(latent, GaussianField) or latent.prior.distribution is pm.Normal
        for latent in problem.latents
    )
    maps = all(
        isinstance(m.forward, LinearMap) and m.operator.is_linear for m in problem.modalities
    )
    noise = all(isinstance(m.noise, (GaussianNoise, CorrelatedNoise)) for m in problem.modalities)
    return latents and maps and noise and len(space.unknown_slices) == len(problem.latents)
