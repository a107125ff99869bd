"""Model discrepancy: errors of the physics, jointly Gaussian over all modalities.

Every form is a factor ``delta = B (s * w)`` of independent standard normal ``w``: one basis ``B`` for
each modality, one scale ``s`` for all, so that ``s`` carries the unknowns and ``B`` stays constant.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint import _validate
from bayesjoint._build import ModelBuild
from bayesjoint._kernels import matern
from bayesjoint.forward import ForwardMap
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

EXACT_POINTS = 1_000  # more distinct points than this ask for a grid
MARGINAL_RANK = 600  # above this "auto" samples the discrepancy


@dataclass(frozen=True, eq=False)
class Factor:
    """The discrepancy in a model: ``delta_k = bases[k] @ (scale * w)``."""

    name: str
    bases: dict[str, Any]  # modality -> array or tensor, shape (data, rank)
    scale: Any  # tensor, shape (rank,)
    rank: int
    marginal: bool


@dataclass(frozen=True, eq=False)
class JointDiscrepancy:
    """Multivariate-normal prior over the model errors of several modalities.

    Parameters
    ----------
    sd : mapping of modality to float or Prior, float or Prior
        Standard deviation of the discrepancy, in the units of each modality; one number with
        ``loadings`` or ``of``.  There is no default: discrepancy and parameters are confounded unless
        its prior is informative (Kennedy & O'Hagan 2001; Brynjarsdóttir & O'Hagan 2014).
    correlation : float, matrix, Prior or None
        Correlation between modalities, in the order of ``sd``; a number is common to all pairs, None
        means independent.
    loadings : mapping of modality to float, optional
        Sensitivity of each modality to one common cause, instead of ``correlation``.
    on : str or tuple of str, optional
        Names of coordinates of the data in which the discrepancy is a Matérn process; each modality
        keeps its own dims.  None pairs the data by index.
    length_scale : float or Prior, optional
        Of the Matérn process, in the units of the coordinates; needed with ``on``.
    smoothness : {0.5, 1.5, 2.5}
        Of the Matérn process.
    form : {"auto", "latent", "marginal"}
        Whether the discrepancy is sampled or integrated out: one posterior either way.  "auto"
        integrates out where all its modalities have Gaussian noise and the rank is at most 600.
    of : ForwardMap, optional
        Model space: the error of this shared map before the observation operators, an independent
        field for every component of its output; the map states its ``coords``.
    grid : Grid, optional
        Reduced rank for many data: the process in the product of one-dimensional eigenbases of this
        grid, interpolated to the data by cubic splines.  An approximation of the Matérn process, whose
        mean variance over the data is exact; let the grid reach a length scale beyond the data.
    rank : int, optional
        Number of leading modes kept with ``grid``.
    name : str
        Prefix of its variables.

    Raises
    ------
    ValueError
        When a setting is missing, contradictory or not positive, or a correlation is not valid.

    Notes
    -----
    Covariance ``K_ij(s, s') = sd_i sd_j rho_ij k(|s - s'| / l)``; in model space ``H_i C H_j^T``.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> shared = bj.JointDiscrepancy(sd={"first": 0.1, "second": 0.2}, correlation=0.8)
    """

    _: KW_ONLY
    sd: Any = None
    correlation: Any = None
    loadings: Mapping[str, float] | None = None
    on: str | tuple[str, ...] | None = None
    length_scale: float | Prior | None = None
    smoothness: float = 1.5
    form: str = "auto"
    of: ForwardMap | None = None
    grid: Grid | None = None
    rank: int | None = None
    name: str = "discrepancy"

    def __post_init__(self) -> None:
        _validate.require_name("JointDiscrepancy", self.name)
        owner = f"JointDiscrepancy {self.name!r}"
        _validate.require_given(
            owner, "sd", self.sd,
            "state how large the model's errors may be: without that they cannot be told from the parameters",
        )
        for value in self.sd.values() if isinstance(self.sd, Mapping) else [self.sd]:
            _validate.require_positive(owner, "sd", value)
        _validate.require_positive(owner, "length_scale", self.length_scale)
        if self.form not in ("auto", "latent", "marginal"):
            raise ValueError(f"{owner}: form {self.form!r} is unknown; use 'auto', 'latent' or 'marginal'")
        if self.on is not None and self.length_scale is None:
            raise ValueError(f"{owner}: length_scale is not given; state over what distance in {self.on} it varies")
        if self.on is None and (self.length_scale is not None or self.grid is not None):
            raise ValueError(f"{owner}: length_scale and grid need on=, the coordinates they refer to")
        self._check_kind(owner)
        self._check_correlation(owner)

    def _check_kind(self, owner: str) -> None:
        per_modality = isinstance(self.sd, Mapping)
        if self.of is not None:
            if per_modality or self.correlation is not None or self.loadings is not None:
                raise ValueError(f"{owner}: with of= give one sd, and neither correlation nor loadings")
            if self.on is None:
                raise ValueError(f"{owner}: with of= give on=, the coordinates of the map's output")
            missing = [c for c in self.axes if c not in self.of.coords]
            if missing:
                raise ValueError(
                    f"{owner}: the map {self.of.name!r} states no coordinates {missing}; make it with "
                    "coords={...}, one value for each row of its output"
                )
        elif self.loadings is not None and (per_modality or self.correlation is not None):
            raise ValueError(f"{owner}: with loadings give one sd, of the common cause, and no correlation")
        elif self.loadings is None and not per_modality:
            raise ValueError(f"{owner}: give sd as {{modality: sd}}, or loadings, or of= for model space")
        if self.grid is not None and set(self.grid.dims) != set(self.axes):
            raise ValueError(f"{owner}: the grid has dims {self.grid.dims}, on= names {self.axes}")

    def _check_correlation(self, owner: str) -> None:
        if self.correlation is None or isinstance(self.correlation, Prior):
            return
        count = len(self.sd)
        matrix = _correlation_matrix(self.correlation, count)
        if matrix.shape != (count, count) or not np.allclose(np.diag(matrix), 1.0):
            raise ValueError(
                f"{owner}: the correlation must be a number or a {count} by {count} matrix with ones on its diagonal"
            )
        _validate.covariance_factor(f"{owner}: correlation", matrix)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on or ())

    def touches(self, modalities: Mapping[str, Any]) -> list[str]:
        """Return the names of the modalities it acts on."""
        if self.of is not None:
            return [name for name, m in modalities.items() if m.forward is self.of]
        return [name for name in (self.loadings or self.sd)]

    def restricted(self, modalities: Mapping[str, Any]) -> "JointDiscrepancy | None":
        """Return the discrepancy of the modalities that are left, None when it touches none."""
        kept = [name for name in self.touches(modalities) if name in modalities]
        if not kept:
            return None
        if self.of is not None:
            return self
        if self.loadings is not None:
            return replace(self, loadings={name: self.loadings[name] for name in kept})
        correlation = self.correlation
        if len(kept) == 1:
            correlation = None
        elif np.ndim(correlation) == 2:
            index = [list(self.sd).index(name) for name in kept]
            correlation = np.asarray(correlation)[np.ix_(index, index)]
        return replace(self, sd={name: self.sd[name] for name in kept}, correlation=correlation)

    def check(self, modalities: Mapping[str, Any]) -> None:
        """Raise unless it fits the modalities."""
        owner = f"JointDiscrepancy {self.name!r}"
        names = self.touches(modalities)
        unknown = [name for name in names if name not in modalities]
        if unknown or not names:
            raise ValueError(f"{owner}: there is no modality {unknown or 'with this map'}; there are {sorted(modalities)}")
        for name in names:
            data = modalities[name].data
            if self.of is None:
                missing = [c for c in self.axes if c not in data.coords]
                if missing:
                    raise ValueError(f"{owner}: modality {name!r} has no coordinate {missing}; there are {sorted(map(str, data.coords))}")
            elif not modalities[name].operator.is_linear:
                raise ValueError(f"{owner}: modality {name!r} observes through a function; model space needs matrices")
        if self.on is None:
            sizes = {name: modalities[name].data.size for name in names}
            if len(set(sizes.values())) != 1:
                raise ValueError(f"{owner}: paired by index, but the modalities have {sizes} data; give on= a coordinate")
        if self.form == "marginal":
            self._check_marginal(owner, modalities, names)

    def _check_marginal(self, owner: str, modalities: Mapping[str, Any], names: list[str]) -> None:
        for name in names:
            if not modalities[name].noise.gaussian:
                raise ValueError(f"{owner}: the marginal form needs GaussianNoise, {name!r} has another; use form='latent'")
            if modalities[name].power != 1.0:
                raise ValueError(f"{owner}: {name!r} is tempered, which has no meaning with a marginal discrepancy")

    def factor(self, build: ModelBuild, modalities: Mapping[str, Any]) -> Factor:
        """Return the factor, adding unknown settings to the model."""
        names = self.touches(modalities)
        if self.of is not None:
            bases, scale = self._model_space(build, {n: modalities[n] for n in names})
        else:
            bases, scale = self._data_space(build, {n: modalities[n] for n in names})
        rank = int(next(iter(bases.values())).type.shape[1] if hasattr(next(iter(bases.values())), "type") else next(iter(bases.values())).shape[1])
        can = all(modalities[n].noise.gaussian and modalities[n].power == 1.0 for n in names)
        marginal = self.form == "marginal" or (self.form == "auto" and can and rank <= MARGINAL_RANK)
        return Factor(self.name, bases, scale, rank, marginal)

    def sample(self, build: ModelBuild, factor: Factor):
        """Add the white variable of the latent form and return the discrepancy of each modality."""
        white = pm.Normal(f"{self.name}_white", shape=factor.rank)
        build.log_priors[self.name] = -0.5 * (white**2 + np.log(2 * np.pi)).sum()
        return {
            name: build_matrix(build, f"{self.name}_basis_{name}", basis) @ (factor.scale * white)
            for name, basis in factor.bases.items()
        }

    def _model_space(self, build: ModelBuild, modalities: Mapping[str, Any]):
        points = np.stack([self.of.coords[c] for c in self.axes], axis=1)
        basis, scale = self._process(build, points)
        sd = build.unknown(f"{self.name}_sd", self.sd, of_errors=True)
        outputs = next(iter(modalities.values())).operator.steps
        size = outputs[0].shape[1] if outputs else next(iter(modalities.values())).data.size
        components, left = divmod(size, points.shape[0])
        if left:
            raise ValueError(
                f"JointDiscrepancy {self.name!r}: the map's output has {size} elements, its coordinates {points.shape[0]}"
            )
        if not isinstance(basis, np.ndarray):
            raise ValueError(
                f"JointDiscrepancy {self.name!r}: an unknown length_scale in model space needs grid=, so that the "
                "basis stays constant"
            )
        full = np.kron(basis, np.eye(components))  # (point x component, mode x component)
        bases = {name: m.operator.matrix_times(full) for name, m in modalities.items()}
        return bases, sd * pt.repeat(scale, components)

    def _data_space(self, build: ModelBuild, modalities: Mapping[str, Any]):
        names = list(modalities)
        points = {n: _points(m.data, self.axes) for n, m in modalities.items()}
        if self.on is None:
            size = points[names[0]].shape[0]
            process, scale = np.eye(size), pt.ones(size)
            rows = {n: process for n in names}
        else:
            process, scale = self._process(build, np.concatenate(list(points.values())))
            starts = np.cumsum([0, *(p.shape[0] for p in points.values())])
            rows = {n: process[starts[i] : starts[i + 1]] for i, n in enumerate(names)}
        if self.loadings is not None:
            sd = build.unknown(f"{self.name}_sd", self.sd, of_errors=True)
            return {n: self.loadings[n] * rows[n] for n in names}, sd * scale
        mixing = self._mixing(build, names, modalities)
        bases = {n: _kron_row(mixing[i], rows[n]) for i, n in enumerate(names)}
        return bases, pt.tile(scale, len(names))

    def _mixing(self, build: ModelBuild, names: list[str], modalities: Mapping[str, Any]):
        """Return ``diag(sd) chol(correlation)``, shape (modality, modality)."""
        sds = [
            build.unknown(
                f"{self.name}_sd_{n}", self.sd[n], of_errors=True, units=modalities[n].data.attrs.get("units", "")
            )
            for n in names
        ]
        if isinstance(self.correlation, Prior):
            correlation = build.unknown(f"{self.name}_correlation", self.correlation, of_errors=True)
            factor = pt.linalg.cholesky(_correlation_tensor(correlation, len(names)))
        else:
            matrix = np.eye(len(names)) if self.correlation is None else _correlation_matrix(self.correlation, len(names))
            factor = np.linalg.cholesky(matrix)
        if isinstance(factor, np.ndarray) and not any(isinstance(self.sd[n], Prior) for n in names):
            return np.array([self.sd[n] for n in names], dtype=float)[:, None] * factor
        return pt.stack(sds)[:, None] * factor

    def _process(self, build: ModelBuild, points: np.ndarray):
        """Return basis (point, mode) and scale (mode,) of the unit-variance process at points."""
        owner = f"JointDiscrepancy {self.name!r}"
        length = build.unknown(f"{self.name}_length_scale", self.length_scale, of_errors=True)
        if self.grid is not None:
            return _reduced_rank(self.grid, points, self.axes, self.smoothness, self.rank, length, owner)
        unique, index = np.unique(points, axis=0, return_inverse=True)
        if unique.shape[0] > EXACT_POINTS:
            raise ValueError(
                f"{owner}: {unique.shape[0]} distinct points make the exact covariance too large; give "
                "grid=bj.Grid(...) around them for a reduced-rank process"
            )
        distance = matern.distances(unique)
        jitter = 1e-10 * np.eye(unique.shape[0])
        if not isinstance(self.length_scale, Prior):
            kernel = matern.matern_correlation(distance / float(self.length_scale), self.smoothness)
            return np.linalg.cholesky(kernel + jitter)[index.ravel()], pt.ones(unique.shape[0])
        kernel = matern.matern_correlation(pt.constant(distance) / length, self.smoothness, pt)
        factor = pt.specify_shape(pt.linalg.cholesky(kernel + jitter), kernel.type.shape)
        return factor[index.ravel()], pt.ones(unique.shape[0])


def build_matrix(build: ModelBuild, name: str, basis: Any):
    """Return a basis as a tensor; a constant one becomes data of the model when it is large."""
    return build.matrix(name, basis) if isinstance(basis, np.ndarray) else basis


def _reduced_rank(grid, points, axes, smoothness, rank, length, owner):
    columns, eigenvalues = np.ones((points.shape[0], 1)), np.zeros(1)
    for dim, widths in zip(grid.dims, grid.widths, strict=True):
        centres, at = grid.centres[dim], points[:, axes.index(dim)]
        if at.min() < centres[0] or at.max() > centres[-1]:
            raise ValueError(f"{owner}: the grid {dim} [{centres[0]:g}, {centres[-1]:g}] does not cover the data [{at.min():g}, {at.max():g}]")
        values, vectors = matern.laplacian_eigenbasis(centres, widths)
        at_points = matern.interpolation_matrix(centres, at) @ vectors
        columns = (columns[:, :, None] * at_points[:, None, :]).reshape(points.shape[0], -1)
        eigenvalues = np.add.outer(eigenvalues, values).ravel()
    kept = np.argsort(eigenvalues, kind="stable")[:rank]
    columns, eigenvalues = columns[:, kept], eigenvalues[kept]
    amplitude = matern.matern_amplitude(length**2 * eigenvalues, len(grid.dims), smoothness)
    mean_variance = (amplitude**2 * np.mean(columns**2, axis=0)).sum()
    return columns, amplitude / pt.sqrt(mean_variance)


def _kron_row(row, basis):
    """Return ``[row_0 basis, row_1 basis, ...]``, shape (data, modality x mode)."""
    if isinstance(row, np.ndarray) and isinstance(basis, np.ndarray):
        return np.kron(row[None, :], basis)
    wide = row[None, :, None] * pt.as_tensor(basis)[:, None, :]
    rows, modes = pt.as_tensor(basis).type.shape
    count = row.type.shape[0] if hasattr(row, "type") else len(row)
    return pt.specify_shape(wide.reshape((rows, count * modes)), (rows, count * modes))


def _correlation_matrix(correlation: Any, count: int) -> np.ndarray:
    if np.ndim(correlation) == 2:
        return np.asarray(correlation, dtype=float)
    return np.full((count, count), float(correlation)) + (1.0 - float(correlation)) * np.eye(count)


def _correlation_tensor(correlation, count: int):
    if correlation.ndim == 2:
        return correlation
    if correlation.ndim == 0:
        return pt.eye(count) + correlation * (1.0 - np.eye(count))
    upper = np.triu_indices(count, 1)
    half = pt.set_subtensor(pt.zeros((count, count))[upper], correlation)
    return half + half.T + pt.eye(count)


def _points(data: Any, axes: tuple[str, ...]) -> np.ndarray:
    if not axes:
        return np.zeros((data.size, 0))
    columns = []
    for axis in axes:
        values = data[axis].broadcast_like(data).transpose(*data.dims).values.ravel()
        if not np.issubdtype(values.dtype, np.number):
            raise ValueError(f"coordinate {axis!r} is not numeric; convert it, for instance times to days since the start")
        columns.append(values.astype(float))
    return np.stack(columns, axis=1)
