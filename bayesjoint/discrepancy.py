"""Model discrepancy: errors of the physics, jointly Gaussian over all modalities.

Every form is a factor ``delta = B (s * w)`` of independent standard normal ``w``: one basis ``B``
for each modality, one scale ``s`` for all; ``s`` carries the unknowns where it can, so that ``B``
stays constant.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint import _discrepancy_checks, _processes
from bayesjoint._build import ModelBuild
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.forward import ForwardMap

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
        ``loadings`` or ``of``.  There is no default: discrepancy and parameters are confounded
        unless its prior is informative (Kennedy & O'Hagan 2001; Brynjarsdóttir & O'Hagan 2014).
    correlation : float, matrix, Prior or None
        Correlation between modalities, in the order of ``sd``; a number is common to all pairs,
        None means independent.
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
        grid, interpolated to the data by cubic splines.  An approximation of the Matérn process,
        whose mean variance over the data is exact; let the grid reach a length scale beyond the
        data.
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
    of: "ForwardMap | None" = None
    grid: Grid | None = None
    rank: int | None = None
    name: str = "discrepancy"

    def __post_init__(self) -> None:
        _discrepancy_checks.check_settings(self)

    @property
    def owner(self) -> str:
        """How messages call it."""
        return f"JointDiscrepancy {self.name!r}"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on or ())

    def touches(self, modalities: Mapping[str, Any]) -> list[str]:
        """Return the names of the modalities it acts on."""
        if self.of is not None:
            return [n for n, m in modalities.items() if self.of in (m.forward, m.forward.origin)]
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
        _discrepancy_checks.check_fit(self, modalities)

    def points(self, modalities: Mapping[str, Any]) -> np.ndarray:
        """Return the coordinates of all data it acts on, or of the map's output in model space."""
        if self.of is not None:
            return np.stack([self.of.coords[axis] for axis in self.axes], axis=1)
        parts = [
            _processes.points_of(f"{self.owner}: modality {name!r}", modality.data, self.axes)
            for name, modality in modalities.items()
        ]
        return np.concatenate(parts)

    def factor(self, build: ModelBuild, modalities: Mapping[str, Any]) -> Factor:
        """Return the factor, adding unknown settings to the model."""
        touched = {name: modalities[name] for name in self.touches(modalities)}
        make = self._data_space if self.of is None else self._model_space
        bases, scale = make(build, touched)
        rank = scale.type.shape[0]
        can = all(m.noise.gaussian and m.power == 1.0 for m in touched.values())
        marginal = self.form == "marginal" or (
            self.form == "auto" and can and rank <= MARGINAL_RANK
        )
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
        points = self.points(modalities)
        basis, scale = self._process(build, points)
        sd = build.unknown(f"{self.name}_sd", self.sd, of_errors=True)
        first = next(iter(modalities.values()))
        components = (first.operator.columns or first.data.size) // points.shape[0]
        full = np.kron(basis, np.eye(components))  # (point x component, mode x component)
        bases = {name: m.operator.matrix_times(full) for name, m in modalities.items()}
        return bases, sd * pt.repeat(scale, components)

    def _data_space(self, build: ModelBuild, modalities: Mapping[str, Any]):
        names = list(modalities)
        rows, scale = self._rows(build, modalities)
        if self.loadings is not None:
            sd = build.unknown(f"{self.name}_sd", self.sd, of_errors=True)
            return {n: self.loadings[n] * rows[n] for n in names}, sd * scale
        mixing = self._mixing(build, names, modalities)
        bases = {n: _processes.kron_row(mixing[i], rows[n]) for i, n in enumerate(names)}
        rank = len(names) * scale.type.shape[0]
        return bases, pt.specify_shape(pt.tile(scale, len(names)), (rank,))

    def _rows(self, build: ModelBuild, modalities: Mapping[str, Any]):
        """Return the basis of the unit process at the data of each modality, and its scale."""
        sizes = [modality.data.size for modality in modalities.values()]
        if self.on is None:
            return dict.fromkeys(modalities, np.eye(sizes[0])), pt.ones(sizes[0])
        process, scale = self._process(build, self.points(modalities))
        starts = np.cumsum([0, *sizes])
        rows = {n: process[starts[i] : starts[i + 1]] for i, n in enumerate(modalities)}
        return rows, scale

    def _mixing(self, build: ModelBuild, names: list[str], modalities: Mapping[str, Any]):
        """Return ``diag(sd) chol(correlation)``, shape (modality, modality)."""
        sds = [
            build.unknown(
                f"{self.name}_sd_{name}",
                self.sd[name],
                of_errors=True,
                units=modalities[name].data.attrs.get("units", ""),
            )
            for name in names
        ]
        if isinstance(self.correlation, Prior):
            correlation = build.unknown(
                f"{self.name}_correlation", self.correlation, of_errors=True
            )
            tensor = _processes.correlation_tensor(correlation, len(names))
            return pt.stack(sds)[:, None] * pt.linalg.cholesky(tensor)
        factor = np.linalg.cholesky(_processes.correlation_matrix(self.correlation, len(names)))
        if any(isinstance(self.sd[name], Prior) for name in names):
            return pt.stack(sds)[:, None] * factor
        return np.array([self.sd[name] for name in names], dtype=float)[:, None] * factor

    def _process(self, build: ModelBuild, points: np.ndarray):
        """Return basis (point, mode) and scale (mode,) of the unit-variance process at points."""
        length = build.unknown(f"{self.name}_length_scale", self.length_scale, of_errors=True)
        if self.grid is not None:
            return _processes.reduced_rank(
                self.grid, points, self.axes, self.smoothness, self.rank, length
            )
        if not isinstance(self.length_scale, Prior):
            length = float(self.length_scale)  # type: ignore[arg-type]
        return _processes.exact(points, self.smoothness, length)


def build_matrix(build: ModelBuild, name: str, basis: Any):
    """Return a basis as a tensor; a constant one becomes data of the model when it is large."""
    return build.matrix(name, basis) if isinstance(basis, np.ndarray) else basis
