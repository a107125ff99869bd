"""NUTS preconditioned with the likelihood-informed spectrum, and the tree of results."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from bayesjoint import _mode, _nuts
from bayesjoint._compile import threads_for
from bayesjoint._densities import log_likelihoods
from bayesjoint._density import CompiledDensity
from bayesjoint._draws import DrawTable
from bayesjoint._functions import ModelFunctions
from bayesjoint._progress import progress_bar
from bayesjoint.linearization import default_starts, linearization_at_mode
from bayesjoint.problem import JointProblem

PRIOR_DRAWS = 500


def sample(
    problem: JointProblem,
    draws: int = 1000,
    tune: int = 500,
    chains: int = 4,
    *,
    random_seed: int | None = None,
    cores: int | None = None,
    target_accept: float = 0.8,
    backend: str | None = None,
    store: str | Path | None = None,
    progress: bool = True,
    keep_white: bool = False,
    prior_draws: int = PRIOR_DRAWS,
) -> xr.DataTree:
    """Return the posterior of a joint problem as an ArviZ-ready DataTree.

    Parameters
    ----------
    problem : JointProblem
    draws, tune, chains : int
        Draws kept and warm-up draws of each chain, and the number of chains.
    random_seed : int, optional
        Makes the run repeatable.
    cores : int, optional
        Chains that run at the same time; all processors by default.
    target_accept : float
        Acceptance that the step size is adapted to.
    backend : {"numba", "interpreted"}, optional
        How the log-density is compiled.  Default: numba, which costs half a minute the first time,
        less from its cache, and ten to thirty times less a gradient; "interpreted" starts at once
        and
        is the default where a forward map is a black box, which dominates the cost anyway.
    store : path, optional
        Folder to which the tree is written as zarr when it is complete.
    progress : bool
        Show progress with time left.
    keep_white : bool
        Keep the white variables in the posterior group.
    prior_draws : int
        Draws of the coupled prior, in all.

    Returns
    -------
    DataTree
        Groups posterior, sample_stats, posterior_predictive, prior, prior_predictive,
        log_likelihood, log_likelihood_joint, log_prior, observed_data, constant_data and
        linearization.  Attributes of the posterior group: ``sampling_time`` (s, warm-up included,
        compilation not), ``tuning_steps``.

    Raises
    ------
    ValueError
        When settings are not positive or the backend is unknown.

    Notes
    -----
    NUTS (Hoffman & Gelman 2014) moves in ``xi`` of ``z = z* + (I + V diag(s) V^T) xi``, where
    ``s = (1 + lambda)^-1/2 - 1``, with eigenpairs of ``H + Gamma`` at the maximum a posteriori:
    there the posterior is nearly standard normal.  The density is the model's own, so that the
    draws are exact whatever the coordinates.

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
    >>> problem = bj.JointProblem(latents=[slope], modalities=[line])
    >>> tree = bj.sample(problem, draws=200, tune=200, chains=2, random_seed=1, progress=False)
    >>> tree["posterior/slope"].sizes["draw"]
    200
    """
    _check_settings(draws=draws, tune=tune, chains=chains, prior_draws=prior_draws)
    rng = np.random.default_rng(random_seed)
    functions = ModelFunctions(problem)
    integrated = _with_discrepancy_integrated_out(problem)
    reference = functions if integrated is problem else ModelFunctions(integrated)
    with threads_for(functions.size + functions.rank):
        density = functions.density = CompiledDensity(functions, backend)
        linearization, mode = linearization_at_mode(reference, default_starts(problem))
        coordinates = _coordinates(functions, reference, mode)
        with progress_bar(progress, "sampling", chains, draws + tune) as callback:
            run = _nuts.run(
                density, coordinates, draws=draws, tune=tune, chains=chains, cores=cores,
                seed=_seed(rng), target_accept=target_accept, progress=callback,
            )  # fmt: skip
        prior = _prior_points(functions, density, rng, prior_draws)
        tree = _tree(functions, run, prior, linearization, rng, keep_white)
    _warn(tree)
    if store is not None:
        tree.to_zarr(Path(store), mode="w", consolidated=False)
    return tree


def _with_discrepancy_integrated_out(problem: JointProblem) -> JointProblem:
    """Return the problem whose linearization and mode serve both forms of the discrepancy."""
    if not any(d.form == "latent" for d in problem.discrepancies):
        return problem
    changed = []
    for discrepancy in problem.discrepancies:
        names = discrepancy.touches(problem.modality)
        gaussian = all(
            problem.modality[n].noise.gaussian and problem.modality[n].power == 1.0 for n in names
        )
        changed.append(replace(discrepancy, form="auto") if gaussian else discrepancy)
    return problem.replace(discrepancy=tuple(changed))


def _coordinates(
    functions: ModelFunctions, reference: ModelFunctions, mode: _mode.Mode
) -> _nuts.Coordinates:
    """Return the preconditioned coordinates around the mode of the density that is sampled."""
    point = (
        mode.point
        if functions is reference
        else _with_discrepancy(functions, reference, mode.point)
    )
    return _nuts.Coordinates.from_precision(point, _mode.sampled_precision(functions, point))


def _with_discrepancy(
    functions: ModelFunctions, reference: ModelFunctions, point: np.ndarray
) -> np.ndarray:
    """Return a flat point of the latent form, its discrepancy at the mean given the rest."""
    full = functions.initial.copy()
    for name, where in reference.slices.items():
        full[functions.slices[name]] = point[where]
    errors = functions.errors(full)
    residual = functions.rotate(functions.data - functions.outputs(full)[: functions.data.size])
    solved = errors.solve(residual)
    for name, block in functions.sampled_factors(full).items():
        full[functions.slices[f"{name}_white"]] = functions.rotate(block).T @ solved
    return full


def prior_points(functions: ModelFunctions, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return draws of the coupled prior in flat coordinates, shape (chain, draw, n)."""
    return _prior_points(functions, CompiledDensity(functions, "interpreted"), rng, count)


def _prior_points(
    functions: ModelFunctions, density: CompiledDensity, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Return draws of the coupled prior, shape (chain, draw, n)."""
    if not functions.problem.couplings and all(u.white for u in functions.build.unknowns):
        return rng.standard_normal((1, count, functions.size))
    half = -(-count // 2)
    run = _nuts.run(
        density.without_data(), _nuts.Coordinates.identity(functions.initial),
        draws=half, tune=300, chains=2, cores=None, seed=_seed(rng), max_depth=8,
    )  # fmt: skip
    return run.points


def _tree(
    functions: ModelFunctions,
    run: _nuts.Run,
    prior: np.ndarray,
    linearization: xr.Dataset,
    rng: np.random.Generator,
    keep_white: bool,
) -> xr.DataTree:
    table, prior_table = DrawTable(functions, run.points), DrawTable(functions, prior)
    posterior = table.posterior(rng, keep_white).assign_attrs(
        sampling_time=run.seconds, tuning_steps=run.tune, inference_library="bayesjoint"
    )
    pointwise, joint = log_likelihoods(table)
    groups = {
        "posterior": posterior,
        "sample_stats": run.stats.assign_coords(chain=posterior.chain, draw=posterior.draw),
        "posterior_predictive": table.posterior_predictive(rng),
        "prior": prior_table.prior(),
        "prior_predictive": prior_table.posterior_predictive(rng),
        "log_likelihood": pointwise,
        "log_likelihood_joint": joint,
        "log_prior": table.log_prior(),
        "observed_data": xr.Dataset(functions.problem.labelled_data),
        "constant_data": _constant_data(functions),
        "linearization": linearization,
    }
    return xr.DataTree.from_dict(groups)


def _constant_data(functions: ModelFunctions) -> xr.Dataset:
    """Return the stated noise standard deviations, in the units of the data."""
    arrays = {}
    for name, modality in functions.problem.modality.items():
        if modality.noise.has_scale and modality.noise.correlation_factor is None:
            stated = functions.build.noise[name].stated
            units = modality.data.attrs.get("units", "")
            arrays[f"{name}_noise_sd"] = (modality.data.dims, stated, {"units": units})
    return xr.Dataset(arrays)


def _warn(tree: xr.DataTree) -> None:
    """Warn of divergences, which mean that draws cannot be trusted as they are."""
    stats = tree["sample_stats"]
    divergences = int(stats["diverging"].sum()) if "diverging" in stats else 0
    if divergences:
        warnings.warn(
            f"{divergences} divergences: raise target_accept towards 0.99, or give more "
            "informative priors where a scale may go to zero",
            UserWarning,
            stacklevel=3,
        )


def _check_settings(**settings: int) -> None:
    for name, value in settings.items():
        if int(value) != value or value < 1:
            raise ValueError(f"sample: {name} must be a positive whole number, {value!r} given")


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
