"""Model discrepancy: errors of the physics, jointly Gaussian over all modalities."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm

from bayesjoint import arrays
from bayesjoint._errors import checks as _discrepancy_checks
from bayesjoint._errors import fitting as _fitting
from bayesjoint._errors import processes as _processes
from bayesjoint._errors.factors import Factor, ModalFactor, build_matrix, factor_of
from bayesjoint._errors.fitting import Fit
from bayesjoint._graph.build import ModelBuild
from bayesjoint._replace import Replaceable
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.forward import ForwardMap


@dataclass(frozen=True, eq=False)
class JointDiscrepancy(Replaceable):
    """Multivariate-normal prior over the model errors of several modalities.

    Parameters
    ----------
    sd : mapping of modality to float or Prior, float or Prior
        Standard deviation of the discrepancy, in the units of each modality, or a quantity that is
        converted to these; one number with
        ``loadings`` or ``of``; a factor, 1 by default, with ``covariance``.  Else there is no
        default: see the notes.
    correlation : float, matrix, Prior or None
        Correlation between modalities, in the order of ``sd``; a number is common to all pairs,
        None means independent, 1 or -1 that the errors of two are one.  Unknown: a prior over the
        common number, or over the matrix, as
        ``bj.Prior(pm.LKJCorr, eta=2, n=3)``.
    loadings : mapping of modality to float, optional
        Sensitivity of each modality to one common cause, instead of ``correlation``.  An
        instrument that observes the cause itself, always or at times, is one more modality, with
        ``forward=None``.
    covariance : mapping of pair of modalities to matrix, optional
        A given covariance instead, in the units of the data: ``{("a", "a"): A, ("a", "b"): C,
        ("b", "b"): B}``, of the ravelled data; pairs left out are uncorrelated.
    on : str or tuple of str, optional
        Names of coordinates of the data in which the discrepancy is a process; each modality keeps
        its own dims.  None pairs the data by index.
    kernel : {"matern", "periodic", "drift"}, or mapping of coordinate to one of them
        Covariance function of the process; a mapping makes a product over the coordinates.
    length_scale : float or Prior, or mapping of coordinate to one of them
        In the units of the coordinates; needed with ``on``.  One number measures Euclidean
        distance; a mapping makes a product of one function a coordinate, as of time and place.
        Along dates and time spans a time span, as ``np.timedelta64(30, "D")``, or a prior with
        ``units="days"``, which are the units of the result.
        Of a periodic function dimensionless; of a drift the time after which it reaches the sd.
    smoothness : {0.5, 1.5, 2.5}
        Of Matérn functions.
    period : float or time span, optional
        Of a periodic function, in the units of its coordinate.
    origin : float or date, optional
        Where a drift is zero.
    form : {"auto", "latent", "marginal"}
        Whether the discrepancy is sampled or integrated out: one posterior either way.  "auto"
        integrates out where all its modalities have Gaussian noise, and either share their places
        or need no more than 600 modes; `linearize` and `sample` state the choice, and how far off
        the log-density is where it is approximate, in the attribute ``discrepancy_forms``.
    of : ForwardMap, optional
        Model space: the error of this shared map before the observation operators, an independent
        field for every component of its output; the map states its ``coords``.
    grid : Grid, optional
        Reduced rank for many data: the process in the product of one-dimensional eigenbases of this
        grid, interpolated to the data by cubic splines.  An approximation of the Matérn process,
        whose mean variance over the data is exact; let the grid reach a length scale beyond the
        data.  Above 1,000 places or 2,000 data the error of its covariance is stated instead of
        that of the log-density.
    rank : int, optional
        Number of leading modes kept: of the grid, or, without one, of the exact covariance at the
        data, the best approximation of that rank.
    name : str
        Prefix of its variables.

    Raises
    ------
    ValueError
        When a setting is missing, contradictory or not positive, or a correlation is not valid.

    Notes
    -----
    Covariance ``K_ij(s, s') = sd_i sd_j rho_ij k(s, s')`` (intrinsic coregionalisation); in model
    space ``H_i C H_j^T``.  Sums of processes are several discrepancies of one problem.

    Why there is no default scale: what the discrepancy can explain, the parameters need not.  A
    wide prior lets it take over the part of the data that informs them; none at all makes wrong
    parameters certain.  Only what is known of the errors, their size, smoothness, sign or common
    cause, tells the two apart (Kennedy & O'Hagan 2001; Brynjarsdóttir & O'Hagan 2014, doi
    10.1088/0266-5611/30/11/114007).

    Modalities with Gaussian noise of one sd each that share all places are integrated out mode by
    mode, exactly, up to 10,000 places; on a lattice with a product of functions, far more.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> shared = bj.JointDiscrepancy(sd={"first": 0.1, "second": 0.2}, correlation=0.8)
    >>> seasonal = bj.JointDiscrepancy(
    ...     sd={"first": 0.1}, on="time", kernel="periodic", period=365.25, length_scale=1.0,
    ...     name="seasonal",
    ... )
    """

    _: KW_ONLY
    sd: Any = None
    correlation: Any = None
    loadings: Mapping[str, float] | None = None
    covariance: Mapping[tuple[str, str], Any] | None = None
    on: str | tuple[str, ...] | None = None
    kernel: str | Mapping[str, str] = "matern"
    length_scale: float | Prior | Mapping[str, float | Prior] | None = None
    smoothness: float = 1.5
    period: Any = None
    origin: Any = None
    form: str = "auto"
    of: "ForwardMap | None" = None
    grid: Grid | None = None
    rank: int | None = None
    name: str = "discrepancy"
    _fit: Fit | None = field(default=None, repr=False)  # made by the problem

    def __post_init__(self) -> None:
        arrays.keep_settings(self)
        self._order_correlation()
        _discrepancy_checks.check_settings(self)

    def _order_correlation(self) -> None:
        """Bring a matrix of correlations into the order of the modalities in sd."""
        if isinstance(self.correlation, Prior | None) or not isinstance(self.sd, Mapping):
            return
        given = arrays.read(self.owner, "correlation", self.correlation)
        count = len(self.sd)
        fits = arrays.is_labelled(self.correlation) or given.values.shape == (count, count)
        if given.values.ndim == 2 and fits:
            between = arrays.Axes.named("modality", list(self.sd), "sd")
            matrix = arrays.matrix(
                self.owner, "correlation", self.correlation, between, between, units="1"
            )
            object.__setattr__(self, "correlation", arrays.keep(matrix))
        elif self.correlation is not None and given.values.ndim == 0:
            number = arrays.number(self.owner, "correlation", self.correlation, "1")
            object.__setattr__(self, "correlation", number)

    @property
    def owner(self) -> str:
        """How messages call it."""
        return f"JointDiscrepancy {self.name!r}"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on or ())

    @property
    def paired(self) -> bool:
        """Whether data are paired, one by one."""
        return self.on is None and self.of is None and self.covariance is None

    def kind(self, axis: str) -> str:
        """Return the kind of covariance function along a coordinate."""
        return self.kernel[axis] if isinstance(self.kernel, Mapping) else self.kernel

    def states_units(self, axis: str) -> bool:
        """Whether it is stated in which units the length scale along a coordinate is."""
        return self._fit is not None or _fitting.states_units(self, axis)

    def fitted(self, modalities: Mapping[str, Any]) -> "JointDiscrepancy":
        """Return the discrepancy in the units, the order and the times of the data.

        Raises
        ------
        ValueError
            When units, labels or times do not fit those of the data.
        """
        settings = _fitting.fitted_settings(self, modalities)
        return self.replace(**settings) if settings else self

    @property
    def frames(self) -> Mapping[str, arrays.Frame]:
        """The numbers in which coordinates are counted."""
        return self._fit.frames if self._fit is not None else {}

    @property
    def orders(self) -> Mapping[str, np.ndarray]:
        """Which element of it acts on each datum, of modalities in another order than the first."""
        return self._fit.orders if self._fit is not None else {}

    def touches(self, modalities: Mapping[str, Any]) -> list[str]:
        """Return the names of the modalities it acts on."""
        if self.of is not None:
            return [n for n, m in modalities.items() if self.of in (m.forward, m.forward.origin)]
        if self.covariance is not None:
            return list(dict.fromkeys(name for pair in self.covariance for name in pair))
        return list(self.loadings or self.sd)

    def restricted(self, modalities: Mapping[str, Any]) -> "JointDiscrepancy | None":
        """Return the discrepancy of the modalities that are left, None when it touches none."""
        kept = [name for name in self.touches(modalities) if name in modalities]
        if not kept:
            return None
        if self.of is not None:
            return self
        if self.covariance is not None:
            inside = {k: v for k, v in self.covariance.items() if set(k) <= set(kept)}
            return self.replace(covariance=inside)
        if self.loadings is not None:
            return self.replace(loadings={name: self.loadings[name] for name in kept})
        correlation = None
        if len(kept) > 1:
            index = [list(self.sd).index(name) for name in kept]
            correlation = _processes.correlation_among(self.correlation, index, len(self.sd))
        return self.replace(sd={name: self.sd[name] for name in kept}, correlation=correlation)

    def check(self, modalities: Mapping[str, Any]) -> None:
        """Raise unless it fits the modalities."""
        _discrepancy_checks.check_fit(self, modalities)

    def check_places(self, observed: Mapping[str, Any]) -> None:
        """Raise unless the places of the observed data suit it."""
        _discrepancy_checks.check_places(self, observed)

    def points(self, modalities: Mapping[str, Any]) -> np.ndarray:
        """Return the coordinates of all data it acts on, or of the map's output in model space."""
        if self.of is not None:
            columns = [
                arrays.coordinate(f"{self.owner}: {a!r}", self.of.coords[a], self.frames.get(a))
                for a in self.axes
            ]
            return np.stack(columns, axis=1)
        parts = [
            self.points_at(f"{self.owner}: modality {name!r}", modality.data)
            for name, modality in modalities.items()
        ]
        return np.concatenate(parts)

    def points_at(self, owner: str, data: Any) -> np.ndarray:
        """Return the coordinates of labelled data in C order, shape (data, axis)."""
        return _processes.points_of(owner, data, self.axes, self.frames)

    def stacked_covariance(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Return the given covariance of all data of modalities with so many data."""
        ends = np.cumsum([0, *sizes.values()])
        where = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(sizes)}
        total = np.zeros((ends[-1], ends[-1]))
        for (first, second), block in (self.covariance or {}).items():
            total[where[first], where[second]] = block
            total[where[second], where[first]] = np.transpose(block)
        return total

    def factor(
        self, build: ModelBuild, modalities: Mapping[str, Any], alone: bool = True
    ) -> Factor | ModalFactor:
        """Return how it enters a model, adding unknown settings to it; see `factor_of`."""
        touched = {name: modalities[name] for name in self.touches(modalities)}
        return factor_of(self, build, touched, alone)

    def sample(self, build: ModelBuild, factor: Factor):
        """Add the white variable of the latent form and return the discrepancy of each modality."""
        white = pm.Normal(f"{self.name}_white", shape=factor.rank)
        build.log_priors[self.name] = -0.5 * (white**2 + np.log(2 * np.pi)).sum()
        return {
            name: build_matrix(build, f"{self.name}_basis_{name}", basis) @ (factor.scale * white)
            for name, basis in factor.bases.items()
        }
