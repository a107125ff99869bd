"""What must hold for a discrepancy, alone and beside its modalities."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
import xarray as xr

from bayesjoint import _validate, arrays
from bayesjoint._errors import processes as _processes
from bayesjoint._graph.compile import in_turn, number
from bayesjoint._kernels import matern
from bayesjoint._kernels.correlations import KINDS
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy

EXACT_POINTS = 1_000  # more distinct points than this ask for a grid, or a rank
EXACT_PAIRS = 2_000  # more pairs than this must be complete
SHARED_POINTS = 10_000  # more places than this make the modes too dear
FORMS = ("auto", "latent", "marginal")


def check_settings(given: "JointDiscrepancy") -> None:
    """Raise unless the settings are complete, positive and free of contradiction."""
    _validate.require_name("JointDiscrepancy", given.name)
    _validate.require_choice(given.owner, "form", given.form, FORMS)
    for setting in ("loadings", "covariance", "sd", "kernel", "length_scale"):
        _check_mapping(given, setting)
    if given.on is not None and not _are_names(given.on):
        raise ValueError(
            f"{given.owner}: on= is of type {type(given.on).__name__}; name a coordinate, or "
            'several in a tuple, as ("x", "y")'
        )
    if not isinstance(given.grid, Grid | None):
        raise ValueError(
            f"{given.owner}: grid= is of type {type(given.grid).__name__}; give a bj.Grid"
        )
    if given.of is not None and not hasattr(given.of, "coords"):
        raise ValueError(
            f"{given.owner}: of= is of type {type(given.of).__name__}; give a map, as that of "
            "bj.linear_map"
        )
    if given.covariance is not None:
        _check_covariance(given)
        return
    _check_scales(given)
    _check_coordinates(given)
    _check_kernel(given)
    if given.of is not None:
        _check_model_space(given)
    else:
        _check_data_space(given)
    _check_correlation(given)


def _check_mapping(given: "JointDiscrepancy", setting: str) -> None:
    """Raise where a setting that may be, or must be, a mapping is another thing."""
    value = getattr(given, setting)
    if value is None or (setting in ("sd", "length_scale", "kernel") and not _is_mapping(value)):
        return
    if not isinstance(value, Mapping) or isinstance(value, xr.Dataset | xr.DataTree):
        raise ValueError(
            f"{given.owner}: {setting} is of type {type(value).__name__}; give a mapping of the "
            "names of modalities"
        )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping | xr.Dataset)


def _are_names(value: Any) -> bool:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple | list) or not names:
        return False
    return all(isinstance(name, str) and name for name in names)


def _check_covariance(given: "JointDiscrepancy") -> None:
    beside = ("correlation", "loadings", "on", "length_scale", "of", "grid", "rank")
    settings = [name for name in beside if getattr(given, name) is not None]
    if settings:
        raise ValueError(
            f"{given.owner}: the covariance is given, {settings[0]} has no meaning beside it; "
            "leave it out"
        )
    if isinstance(given.sd, Mapping):
        raise ValueError(
            f"{given.owner}: with covariance, sd is one factor on all standard deviations"
        )
    _validate.require_positive(given.owner, "sd", given.sd)
    pairs = list(given.covariance or {})
    if not pairs or any(not (isinstance(p, tuple) and len(p) == 2) for p in pairs):
        raise ValueError(
            f"{given.owner}: give the covariance by pairs of modalities, as "
            '{("a", "a"): A, ("a", "b"): C, ("b", "b"): B}'
        )
    twice = [pair for pair in pairs if pair[0] != pair[1] and pair[::-1] in pairs]
    if twice:
        raise ValueError(
            f"{given.owner}: the covariance names the pair {twice[0]} twice; leave one of them out"
        )


def _check_scales(given: "JointDiscrepancy") -> None:
    _validate.require_given(
        given.owner,
        "sd",
        given.sd,
        "state how large the model's errors may be, a number or a prior: without that they cannot "
        "be told from the parameters, which they may replace (Kennedy & O'Hagan 2001)",
    )
    for value in given.sd.values() if isinstance(given.sd, Mapping) else [given.sd]:
        _validate.require_positive(given.owner, "sd", value)
        _validate.require_scalar(given.owner, "sd", value)
    lengths = given.length_scale
    for value in lengths.values() if isinstance(lengths, Mapping) else [lengths]:
        _validate.require_positive(given.owner, "length_scale", value)
        _validate.require_scalar(given.owner, "length_scale", value)
    for setting in ("period", "origin", "smoothness", "rank"):
        _validate.require_known(given.owner, setting, getattr(given, setting))
    _validate.require_positive(given.owner, "period", given.period)
    _check_loadings(given)


def _check_loadings(given: "JointDiscrepancy") -> None:
    if given.loadings is not None and not isinstance(given.loadings, Mapping):
        raise ValueError(
            f"{given.owner}: loadings is a {type(given.loadings).__name__}; give them by modality, "
            'as {"gnss": 1.0}'
        )
    for name, loading in (given.loadings or {}).items():
        _validate.require_known(given.owner, f"the loading of {name!r}", loading)
        what = f"the loading of {name!r}"
        values = arrays.read(given.owner, what, loading, missing=True).values
        if values.ndim or not np.isfinite(values):
            raise ValueError(
                f"{given.owner}: the loading of {name!r} is {loading!r}; give a finite number, 0 "
                "where the common cause does not act"
            )


def _check_coordinates(given: "JointDiscrepancy") -> None:
    if given.on is not None and given.length_scale is None:
        raise ValueError(
            f"{given.owner}: length_scale is not given; state over what distance in {given.on} it "
            "varies"
        )
    if given.on is None and (given.length_scale is not None or given.grid is not None):
        raise ValueError(
            f"{given.owner}: length_scale and grid need on=, the coordinates they refer to"
        )
    if given.rank is not None:
        _validate.require_whole(given.owner, "rank", given.rank)
    if given.rank is not None and given.on is None:
        raise ValueError(f"{given.owner}: rank counts modes in coordinates; give on=, or leave it")
    if given.rank is not None and given.grid is None and not _is_known(given):
        raise ValueError(
            f"{given.owner}: the leading modes change with an unknown length_scale; give grid=, "
            "whose modes do not, or a number"
        )
    if given.grid is not None and set(given.grid.dims) != set(given.axes):
        raise ValueError(
            f"{given.owner}: the grid has dims {given.grid.dims}, on= names {given.axes}"
        )


def _is_known(given: "JointDiscrepancy") -> bool:
    lengths = given.length_scale
    values = lengths.values() if isinstance(lengths, Mapping) else [lengths]
    return not any(isinstance(value, Prior) for value in values)


def _check_kernel(given: "JointDiscrepancy") -> None:
    """Raise unless each coordinate has a covariance function with the settings it needs."""
    _validate.keep_number(given, given.owner, "smoothness")
    smoothness = given.smoothness
    if smoothness not in matern.CLOSED_FORMS:
        raise ValueError(
            f"{given.owner}: smoothness {given.smoothness} is not one of {matern.CLOSED_FORMS}"
        )
    by_axis = isinstance(given.kernel, Mapping)
    kinds: dict[str, Any] = (
        dict(given.kernel)
        if isinstance(given.kernel, Mapping)
        else dict.fromkeys(given.axes or ("",), given.kernel)
    )
    for kind in kinds.values():
        _validate.require_choice(given.owner, "kernel", kind, KINDS)
    for setting in ("kernel", "length_scale"):
        value = getattr(given, setting)
        if isinstance(value, Mapping) and set(value) != set(given.axes):
            raise ValueError(
                f"{given.owner}: {setting} names {sorted(value)}, on= names {list(given.axes)}; "
                "one for each"
            )
    lengths, special = given.length_scale, [k for k in kinds.values() if k != "matern"]
    if (special or by_axis) and len(given.axes) > 1 and not isinstance(lengths, Mapping):
        raise ValueError(
            f"{given.owner}: a product of functions needs one length_scale for each coordinate, "
            f"as length_scale={{{', '.join(f'{axis!r}: ...' for axis in given.axes)}}}"
        )
    _check_special(given, kinds)
    if given.grid is not None and (special or isinstance(lengths, Mapping)):
        raise ValueError(f"{given.owner}: a grid has the modes of one Matérn function; leave it")


def _check_special(given: "JointDiscrepancy", kinds: Mapping[str, str]) -> None:
    used = set(kinds.values())
    for kind, setting in (("periodic", "period"), ("drift", "origin")):
        value = getattr(given, setting)
        if kind in used and value is None:
            cure = "after which it repeats" if kind == "periodic" else "at which it is zero"
            raise ValueError(f"{given.owner}: a {kind} kernel needs {setting}=, the one {cure}")
        if kind not in used and value is not None:
            raise ValueError(f"{given.owner}: {setting} belongs to a {kind} kernel; leave it out")
    lengths = given.length_scale
    for axis, kind in kinds.items():
        length = lengths[axis] if isinstance(lengths, Mapping) else lengths
        if kind == "drift" and isinstance(length, Prior):
            raise ValueError(
                f"{given.owner}: of a drift only sd over length_scale can be known; give the "
                "length_scale a number and the sd a prior"
            )


def _check_model_space(given: "JointDiscrepancy") -> None:
    shared: Any = given.of
    if isinstance(given.sd, Mapping) or given.correlation is not None or given.loadings is not None:
        raise ValueError(
            f"{given.owner}: with of= give one sd, and neither correlation nor loadings"
        )
    if given.on is None:
        raise ValueError(f"{given.owner}: with of= give on=, the coordinates of the map's output")
    missing = [axis for axis in given.axes if axis not in shared.coords]
    if missing:
        raise ValueError(
            f"{given.owner}: the map {shared.name!r} states no coordinates {missing}; make it with "
            "coords={...}, one value for each row of its output"
        )
    if not _is_known(given) and given.grid is None:
        raise ValueError(
            f"{given.owner}: an unknown length_scale in model space needs grid=, so that the basis "
            "stays constant"
        )


def _check_data_space(given: "JointDiscrepancy") -> None:
    per_modality = isinstance(given.sd, Mapping)
    if given.loadings is not None and (per_modality or given.correlation is not None):
        raise ValueError(
            f"{given.owner}: with loadings give one sd, of the common cause, and no correlation"
        )
    if given.loadings is None and not per_modality:
        raise ValueError(
            f"{given.owner}: give sd as {{modality: sd}}, or loadings, or of= for model space"
        )


def _check_correlation(given: "JointDiscrepancy") -> None:
    if given.correlation is None:
        return
    count = len(given.sd)
    if count < 2:
        raise ValueError(
            f"{given.owner}: a correlation needs two modalities, sd names {list(given.sd)}; leave "
            "the correlation out, or name the other modality in sd"
        )
    if isinstance(given.correlation, Prior):
        _check_correlation_prior(given.owner, given.correlation, count)
        return
    matrix = arrays.read(given.owner, "correlation", given.correlation).values
    if matrix.ndim == 0:
        matrix = _processes.correlation_matrix(matrix, count)
    if matrix.shape != (count, count) or not np.allclose(np.diag(matrix), 1.0):
        raise ValueError(
            f"{given.owner}: the correlation must be a number or a {count} by {count} matrix with "
            "ones on its diagonal"
        )
    _validate.require_semidefinite(f"{given.owner}: correlation", matrix)


@in_turn()
def _check_correlation_prior(owner: str, prior: Prior, count: int) -> None:
    """Raise unless a common correlation stays where the matrix is positive definite."""
    if not prior.is_white or prior.dist().type.ndim != 0 or count < 2:
        return
    lowest, highest = number(prior.from_white(pt.constant([-8.0, 8.0])))
    bound = -1.0 / (count - 1)
    if lowest < bound - 1e-9 or highest > 1.0 + 1e-9:
        raise ValueError(
            f"{owner}: the prior over the correlation reaches [{lowest:.3g}, {highest:.3g}]; one "
            f"correlation common to {count} modalities must lie between {bound:.3g} and 1, as with "
            f"bj.Prior(pm.Uniform, lower={bound:.2g}, upper=1)"
        )


def check_fit(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    """Raise unless the discrepancy fits the modalities of a problem."""
    names = given.touches(modalities)
    unknown = [name for name in names if name not in modalities]
    if unknown or not names:
        raise ValueError(
            f"{given.owner}: there is no modality {unknown or 'with this map'}; there are "
            f"{sorted(modalities)}"
        )
    touched = {name: modalities[name] for name in names}
    if given.of is not None:
        _check_operators(given, touched)
    elif given.covariance is not None:
        _check_blocks(given, touched)
    elif given.on is None:
        _check_pairs(given, touched)
    if given.form == "marginal":
        _check_marginal(given, touched)


def check_places(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    """Raise unless the places of the observed data have coordinates, and are few or covered."""
    touched = {name: modalities[name] for name in given.touches(modalities)}
    if given.on is not None:
        _check_points(given, touched)
    elif given.paired:
        _check_incomplete_pairs(given, touched)


def _check_incomplete_pairs(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    """Raise where many data are paired, and not all of a pair are there: they share no modes."""
    places = [modality.places for modality in modalities.values()]
    count = np.unique(np.concatenate(places)).size
    if count > EXACT_PAIRS and not all(np.array_equal(places[0], other) for other in places):
        raise ValueError(
            f"{given.owner}: {count} pairs, of which some lack a datum, make the exact covariance "
            "too large; leave out the other datum too, as in first.where(second.notnull().values), "
            "or state on= and grid=bj.Grid(...)"
        )


def _check_blocks(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    sizes = {name: modality.data.size for name, modality in modalities.items()}
    total = given.stacked_covariance(sizes)
    values = np.linalg.eigvalsh((total + total.T) / 2)
    if not _validate.is_symmetric(total) or values[0] < -1e-8 * max(values[-1], 0.0):
        raise ValueError(
            f"{given.owner}: the given covariance is not symmetric and positive semi-definite; "
            f"its smallest eigenvalue is {values[0]:.3g}, the largest {values[-1]:.3g}"
        )


def _check_operators(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    count = len(given.points(modalities))
    for name, modality in modalities.items():
        if not modality.operator.is_linear:
            raise ValueError(
                f"{given.owner}: modality {name!r} observes through a function; model space needs "
                "matrices"
            )
        size = modality.operator.columns or modality.data.size
        if size % count:
            raise ValueError(
                f"{given.owner}: modality {name!r} observes {size} outputs of the map, its "
                f"coordinates are {count}; one for each row of the output"
            )


def _check_pairs(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    sizes = {name: modality.data.size for name, modality in modalities.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"{given.owner}: paired by index, but the modalities have {sizes} data; give on= a "
            "coordinate"
        )


def _check_points(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    points = given.points(modalities)
    if given.grid is not None:
        _processes.require_covered(given.owner, given.grid, points, given.axes)
        return
    count = np.unique(points, axis=0).shape[0]
    limit, cure = EXACT_POINTS, "give rank=, or grid=bj.Grid(...) around them"
    if given.rank is not None:
        limit, cure = SHARED_POINTS, "give grid=bj.Grid(...) around them"
    elif _shares_places(given, modalities):
        limit = SHARED_POINTS
        if isinstance(given.length_scale, Mapping) and not _has_gaps(modalities):
            return
    if count > limit:
        raise ValueError(
            f"{given.owner}: {count} distinct points make the exact covariance too large; {cure}, "
            "for a reduced-rank process"
        )


def _shares_places(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> bool:
    """Return whether all modalities have the same places, as for modes shared by them."""
    if given.of is not None or not _is_known(given) or given.form == "latent":
        return False
    if not all(m.noise.gaussian and m.power == 1.0 for m in modalities.values()):
        return False
    if any(np.size(getattr(m.noise, "sd", 1.0)) > 1 for m in modalities.values()):
        return False
    first, *others = (given.points({name: m}) for name, m in modalities.items())
    return all(np.array_equal(first, other) for other in others)


def _has_gaps(modalities: Mapping[str, Any]) -> bool:
    """Whether data are missing, so that those observed are no lattice."""
    return any(modality.whole is not modality for modality in modalities.values())


def _check_marginal(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    for name, modality in modalities.items():
        if not modality.noise.is_normal:
            raise ValueError(
                f"{given.owner}: the marginal form needs Gaussian noise, {name!r} has another; "
                "use form='latent'"
            )
        if modality.power != 1.0:
            raise ValueError(
                f"{given.owner}: {name!r} is tempered, which has no meaning with a marginal "
                "discrepancy"
            )
