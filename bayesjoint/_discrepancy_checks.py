"""What must hold for a discrepancy, alone and beside its modalities."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _processes, _validate
from bayesjoint._compile import INTERPRETED
from bayesjoint._kernels import matern
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy

EXACT_POINTS = 1_000  # more distinct points than this ask for a grid
FORMS = ("auto", "latent", "marginal")


def check_settings(given: "JointDiscrepancy") -> None:
    """Raise unless the settings are complete, positive and free of contradiction."""
    _validate.require_name("JointDiscrepancy", given.name)
    _check_scales(given)
    if given.smoothness not in matern.CLOSED_FORMS:
        raise ValueError(
            f"{given.owner}: smoothness {given.smoothness} is not one of {matern.CLOSED_FORMS}"
        )
    if given.form not in FORMS:
        raise ValueError(f"{given.owner}: form {given.form!r} is unknown; use one of {FORMS}")
    _check_coordinates(given)
    if given.of is not None:
        _check_model_space(given)
    else:
        _check_data_space(given)
    _check_correlation(given)


def _check_scales(given: "JointDiscrepancy") -> None:
    _validate.require_given(
        given.owner,
        "sd",
        given.sd,
        "state how large the model's errors may be: without that they cannot be told from the "
        "parameters",
    )
    for value in given.sd.values() if isinstance(given.sd, Mapping) else [given.sd]:
        _validate.require_positive(given.owner, "sd", value)
        _validate.require_scalar(given.owner, "sd", value)
    _validate.require_positive(given.owner, "length_scale", given.length_scale)
    _validate.require_scalar(given.owner, "length_scale", given.length_scale)


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
    if given.rank is not None and given.grid is None:
        raise ValueError(
            f"{given.owner}: rank counts the modes of a grid; give grid=, or leave rank out"
        )
    if given.grid is not None and set(given.grid.dims) != set(given.axes):
        raise ValueError(
            f"{given.owner}: the grid has dims {given.grid.dims}, on= names {given.axes}"
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
    if isinstance(given.length_scale, Prior) and given.grid is None:
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
    if isinstance(given.correlation, Prior):
        _check_correlation_prior(given.owner, given.correlation, count)
        return
    matrix = _processes.correlation_matrix(given.correlation, count)
    if matrix.shape != (count, count) or not np.allclose(np.diag(matrix), 1.0):
        raise ValueError(
            f"{given.owner}: the correlation must be a number or a {count} by {count} matrix with "
            "ones on its diagonal"
        )
    _validate.covariance_factor(f"{given.owner}: correlation", matrix)


def _check_correlation_prior(owner: str, prior: Prior, count: int) -> None:
    """Raise unless a common correlation stays where the matrix is positive definite."""
    if not prior.is_white or prior.dist().type.ndim != 0 or count < 2:
        return
    lowest, highest = prior.from_white(pt.constant([-8.0, 8.0])).eval(mode=INTERPRETED)
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
    elif given.on is None:
        _check_pairs(given, touched)
    if given.on is not None:
        _check_points(given, given.points(touched))
    if given.form == "marginal":
        _check_marginal(given, touched)


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


def _check_points(given: "JointDiscrepancy", points: np.ndarray) -> None:
    if given.grid is not None:
        _processes.require_covered(given.owner, given.grid, points, given.axes)
        return
    count = np.unique(points, axis=0).shape[0]
    if count > EXACT_POINTS:
        raise ValueError(
            f"{given.owner}: {count} distinct points make the exact covariance too large; give "
            "grid=bj.Grid(...) around them for a reduced-rank process"
        )


def _check_marginal(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> None:
    for name, modality in modalities.items():
        if not modality.noise.gaussian:
            raise ValueError(
                f"{given.owner}: the marginal form needs GaussianNoise, {name!r} has another; use "
                "form='latent'"
            )
        if modality.power != 1.0:
            raise ValueError(
                f"{given.owner}: {name!r} is tempered, which has no meaning with a marginal "
                "discrepancy"
            )
