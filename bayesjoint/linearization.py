"""The likelihood-informed spectrum of a problem at a point: the preview without sampling."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from bayesjoint import _arguments, _names
from bayesjoint._compiled import failures as _failures
from bayesjoint._compiled.density import CompiledDensity, default_backend
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import threads_for
from bayesjoint._local import mode as _mode
from bayesjoint._local import of_data as _of_data
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.approximations import approximation_errors
from bayesjoint._local.confounding import of_discrepancies
from bayesjoint._local.coupled_prior import coupled_prior
from bayesjoint._local.informed import Informed
from bayesjoint._local.marginals import mapped, prior_sds
from bayesjoint._local.rechecks import recheck, require_possible
from bayesjoint.couplings import CorrelatedFields, PropertyMixture
from bayesjoint.forward import LinearMap, SilentMap
from bayesjoint.latents import GaussianField
from bayesjoint.modalities import Modality
from bayesjoint.noise import CorrelatedNoise, GaussianNoise
from bayesjoint.priors import Prior
from bayesjoint.problem import JointProblem, require_problem

THRESHOLD = 0.1
DRAWS = 20
AS_HIGH = 2.3  # nats that another maximum may be lower: a tenth of the density
LINEAR = (LinearMap, SilentMap)


def linearize(
    problem: JointProblem,
    at: Any = None,
    *,
    starts: int | None = None,
    backend: str | None = None,
    threshold: float = THRESHOLD,
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
        Starts of the search for the maximum.  Default: 1 where all maps are linear and no coupling
        is a mixture, else 16, spread evenly over the prior.
    backend : {"numba", "interpreted"}, optional
        How the log-density is compiled; see `sample`.  Default: interpreted for a single start.
    threshold : float
        Smallest eigenvalue that is looked for where there are more than 2,000 unknowns and more
        than 2,000 data.

    Returns
    -------
    DataTree
        A group ``linearization``, and ``linearization_1`` and on at other maxima that are lower by
        less than 2.3 nats, which `compromise` and `tension` then compare with: the pairs of ``H v =
        lambda (I + Gamma) v``, and what resolution, leakage, information and identifiability follow
        from.  Every report accepts it.
        Attributes: ``rank`` (pairs kept), ``method``, ``truncation_bound`` (the sum of the
        eigenvalues left out, which bounds the degrees of freedom that are missing, and twice the
        nats of information), ``largest_left_out``; ``spectrum_error`` (by rounding, of an
        eigenvalue relative to one more than it); ``local``, 0 where all is linear, Gaussian and
        of known scale (fields of known correlation included), so that the numbers are those of the
        posterior, 1 where they hold near the point only; ``renamed``, where a latent or a dim has
        the name of a variable or dim of the group, which then has an underscore behind it, as in
        ``"mode: mode_"``.  Reports do the same.

    Raises
    ------
    ValueError
        When values are missing in ``at``; when a map fails there, or wherever the search for the
        maximum starts, from the first exception; when a derivative that a user wrote is wrong at
        the maximum.

    Notes
    -----
    ``H = J^T (R + K)^-1 J`` with the discrepancy integrated out, plus the Fisher information on
    unknown scales of the errors; Gamma is the Gauss-Newton Hessian of the couplings.  Spantini et
    al. (2015), doi 10.1137/140977308.  Up to 2,000 unknowns all pairs are found, and with up to
    2,000 data all that exceed 1e-6, from the rows of the whitened Jacobian.  Beyond, those above
    the threshold, by block Lanczos iteration with products of the Jacobian.  Above 2,000 unknowns
    no matrix of their square is formed, and ``prior_sd`` leaves out eigenvalues of Gamma below
    0.03.

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
    require_problem(problem)
    _arguments.check("linearize", threshold=threshold)
    _arguments.check_given("linearize", starts=starts, backend=backend)
    others: dict[str, xr.Dataset] = {}
    with compiled(problem) as functions, threads_for(functions.size + functions.rank):
        _failures.reset(functions.counts)
        if at is None:
            starts = default_starts(problem) if starts is None else starts
            if (backend or ("interpreted" if starts == 1 else default_backend(problem))) == "numba":
                functions.density = functions.once(CompiledDensity, "numba")
            dataset, mode = linearization_at_mode(functions, starts, threshold)
            others = at_other_modes(functions, mode, threshold)
        elif isinstance(at, xr.DataTree):
            if "posterior" not in at.children:
                raise ValueError(
                    "linearize: at= has no group posterior; give the whole tree of bj.sample"
                )
            dataset = _at_draws(functions, at["posterior"].to_dataset(), threshold)
        elif isinstance(at, Mapping):
            dataset = _at_values(functions, at, threshold)
        else:
            raise ValueError(
                "linearize: at= takes None, a mapping of names to values, or a sampled posterior"
            )
        _failures.warn(functions.counts)
    return tree_of(dataset, others)


def tree_of(dataset: xr.Dataset, others: Mapping[str, xr.Dataset] | None = None) -> xr.DataTree:
    """Return a tree with the group, and those at other maxima; names of the user as given."""
    groups = {"linearization": dataset, **(others or {})}
    return xr.DataTree.from_dict({name: _names.released(ds) for name, ds in groups.items()})


def default_starts(problem: JointProblem) -> int:
    """Return how many starts the search for the maximum takes: few problems have one maximum."""
    mixed = any(isinstance(c, PropertyMixture) and len(c.labels) > 1 for c in problem.couplings)
    linear = all(isinstance(m.forward, LINEAR) for m in problem.modalities)
    return 1 if linear and not mixed else 16


def linearization_at_mode(
    functions: ModelFunctions, starts: int, threshold: float = THRESHOLD
) -> tuple[xr.Dataset, _mode.Mode]:
    """Return the dataset of the group at the maximum a posteriori, and the maximum."""
    mode = _mode.maximum_a_posteriori(functions, starts)
    recheck(functions.once(LatentSpace), mode.point, "at the maximum a posteriori")
    dataset = linearization_at_point(functions.once(LatentSpace), mode.point, threshold)
    found = {"converged": int(mode.converged), "lower_modes": list(mode.lower_modes)}
    return dataset.assign_attrs(at="map", starts=starts, **found), mode


def at_other_modes(
    functions: ModelFunctions, mode: _mode.Mode, threshold: float = THRESHOLD
) -> dict[str, xr.Dataset]:
    """Return groups at maxima of about the same height, by name; none where there is one."""
    space, heights = functions.once(LatentSpace), (mode.log_density, *mode.lower_modes)
    found = {}
    for number in range(1, len(heights)):
        if heights[number] > mode.log_density - AS_HIGH:
            dataset = linearization_at_point(space, mode.points[number], threshold)
            rest = [h for i, h in enumerate(heights) if i != number]
            attrs = {"at": "map", "converged": 1, "lower_modes": rest}
            found[f"linearization_{number}"] = dataset.assign_attrs(attrs)
    return found


def _at_draws(functions: ModelFunctions, posterior: xr.Dataset, threshold: float) -> xr.Dataset:
    space = functions.once(LatentSpace)
    sets = [
        linearization_at_point(space, p, threshold).drop_vars("data_rows")  # large, many times
        for p in space.points_of_draws(posterior, DRAWS)
    ]
    # Points may differ in the number of pairs above the threshold: those below are zero.
    joined = xr.concat(
        sets, dim="point", join="outer", fill_value=0.0, combine_attrs="drop_conflicts",
        data_vars="all",
    )  # fmt: skip
    bounds = {
        name: max(dataset.attrs[name] for dataset in sets)
        for name in ("truncation_bound", "spectrum_error")
    }
    # Attributes that differ are dropped; how far off a form is depends on the draw, somewhat.
    forms = sets[0].attrs["discrepancy_forms"]
    return joined.assign_attrs(at="draws", converged=1, discrepancy_forms=forms, **bounds)


def _at_values(functions: ModelFunctions, values: Mapping, threshold: float) -> xr.Dataset:
    space = functions.once(LatentSpace)
    dataset = linearization_at_point(space, space.point_of_values(values), threshold)
    return dataset.assign_attrs(at="values", converged=1)


def linearization_at_point(
    space: LatentSpace, point: np.ndarray, threshold: float = THRESHOLD
) -> xr.Dataset:
    """Return the dataset of the group at a flat point; names of the user are marked."""
    functions = space.functions
    outputs = functions.outputs(point)
    responses = {name: outputs[where] for name, where in functions.data_slices.items()}
    require_possible(functions, responses, "at the point where it is linearised")
    actions, scaling = LocalActions(functions, point), space.scaling(point)
    prior = coupled_prior(actions, scaling)
    informed = Informed(actions, scaling, prior, threshold)
    spectrum, white = informed.spectrum, scaling.white(point)
    variables = {
        "eigenvalues": ("mode", spectrum.values),
        "eigenvectors": (("unknown", "mode"), spectrum.vectors),
        **_of_cells(space, point, informed),
        **_of_data.of_modalities(informed),
        **_of_data.of_each_datum(informed),
        **_of_data.misfits(informed, point),
        **_of_data.likelihood(informed, point),
        "n_data": ("modality", [m.data.size for m in functions.problem.modalities]),
        "prior_norm": ("latent", [sum(white[w] ** 2) for w in space.unknown_slices.values()]),
        "prior_distance": ((), float(prior.precision(white[None])[0] @ white)),
        "white_point": ("unknown", white),
        "log_posterior": ((), float(functions.density(point)[0])),
    }
    physical, sd = variables["physical_vectors"][1], variables["posterior_sd"][1]
    variables |= of_discrepancies(informed, physical, sd)
    variables |= mapped(space, white, space.factors(point), sd, all_linear(functions.problem))
    variables["true_prior_sd"] = ("cell", prior_sds(space, variables["prior_sd"][1]))
    coords = {
        **space.index_coords(functions),
        "mode": np.arange(spectrum.values.size),
        **{
            dim: np.arange(variables[name][1].shape[1])
            for dim, name in (("row", "modality_factor"), ("rest_row", "rest_factor"))
            if name in variables
        },
    }
    dataset = xr.Dataset(variables, coords=coords, attrs=_attrs(functions, space))
    dataset = dataset.assign_attrs(
        truncation_bound=spectrum.left_out,
        largest_left_out=spectrum.largest_left_out,
        rank=int(spectrum.values.size),
        discrepancy_forms=discrepancy_forms(space, point),
        method=spectrum.method,
        spectrum_error=spectrum.error,
    )
    return dataset.merge(space.physical_values(point)).merge(_mixtures(space, point))


def _of_cells(space: LatentSpace, point: np.ndarray, informed: Informed) -> dict[str, Any]:
    """Return directions in other coordinates, and how far each cell varies before and after."""
    factors, prior, vectors = space.factors(point), informed.prior, informed.spectrum.vectors
    duals, physical = prior.precision(vectors.T).T, space.physical(factors, vectors)
    uncoupled = np.concatenate([factor.variance for factor in factors.values()])
    before = prior.variance(lambda columns: space.physical(factors, columns), uncoupled)
    return {
        "dual_vectors": (("unknown", "mode"), duals),
        "physical_vectors": (("cell", "mode"), physical),
        "physical_duals": (("cell", "mode"), space.physical_dual(factors, duals)),
        "prior_sd": ("cell", np.sqrt(before)),
        "posterior_sd": ("cell", np.sqrt(informed.posterior_variance(factors, physical, before))),
        "prior_precision_diagonal": ("unknown", prior.precision_diagonal()),
    }


def _mixtures(space: LatentSpace, point: np.ndarray) -> xr.Dataset:
    """Return the parameters of mixtures of rock units, from which memberships follow."""
    values = dict(zip(space.names, space.values(point), strict=True))
    found = xr.Dataset()
    for coupling in space.functions.problem.couplings:
        if isinstance(coupling, PropertyMixture):
            numbers, unit, fields = coupling.numbers(values), coupling.unit, coupling.latents
            axes = (_names.user(unit), f"{coupling.name}_property", f"{coupling.name}_before")
            found = found.assign_coords({axes[0]: coupling.coords[unit], axes[1]: list(fields)})
            found[f"{unit}_proportion"] = axes[:1], numbers.proportions
            found[f"{unit}_mean"] = axes[:2], numbers.means
            found[f"{unit}_sd"] = axes[:2], numbers.sds
            found[f"{unit}_factor"] = axes, np.array(numbers.factors)
    return found


def _attrs(functions: ModelFunctions, space: LatentSpace) -> dict[str, Any]:
    problem = functions.problem
    return {
        "latents": list(problem.latent),
        "hyperparameters": [name for name in space.unknown_slices if name not in problem.latent],
        "modalities": list(problem.modality),
        "couplings": [coupling.name for coupling in problem.couplings],
        "mixtures": [c.name for c in problem.couplings if isinstance(c, PropertyMixture)],
        "discrepancies": [d.name for d in problem.discrepancies],
        "discrepancy_coordinates": sorted({a for d in problem.discrepancies for a in d.axes}),
        "errors": "correlated" if _of_data.correlated(functions) else "independent",
        "coupled": int(bool(problem.couplings)),
        "powers": [float(m.power) for m in problem.modalities],
        "noise_scales": [_noise_scale(m) for m in problem.modalities],
        "local": int(not is_gaussian(problem, space)),
        "pymc_version": pm.__version__,
    }


def discrepancy_forms(space: LatentSpace, point: np.ndarray) -> list[str]:
    """Say how each discrepancy enters, and how far off that is where it is an approximation."""
    errors, forms = approximation_errors(space, point), []
    for name, factor in space.functions.build.factors.items():
        off = f" ({errors[name]})" if name in errors else ""
        forms.append(f"{name}: {factor.words}{off}")
    return forms


def _noise_scale(modality: Modality) -> str:
    """Say whether the scale of the noise is known: it balances the modality when it is not."""
    if not modality.noise.has_scale:
        return "none"
    settings = (getattr(modality.noise, name, None) for name in ("sd", "scale"))
    return "unknown" if any(isinstance(value, Prior) for value in settings) else "known"


def all_linear(problem: JointProblem) -> bool:
    """Return whether all data are linear functions of the latents."""
    return all(isinstance(m.forward, LINEAR) and m.operator.is_linear for m in problem.modalities)


def is_gaussian(problem: JointProblem, space: LatentSpace) -> bool:
    """Return whether the posterior is Gaussian: all is linear, Gaussian and of known scale.

    Correlated fields are so where their correlation is known; other couplings are not.
    """
    couplings = all(isinstance(c, CorrelatedFields) for c in problem.couplings)
    latents = all(
        isinstance(latent, GaussianField) or latent.prior.distribution is pm.Normal
        for latent in problem.latents
    )
    maps = all_linear(problem)
    noise = all(isinstance(m.noise, (GaussianNoise, CorrelatedNoise)) for m in problem.modalities)
    known = len(space.unknown_slices) == len(problem.latents)
    return latents and couplings and maps and noise and known
