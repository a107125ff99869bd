"""The normaliser of a coupled prior, which an unknown weight or length scale needs.

A potential ``exp(-w phi)`` times the prior of the fields integrates to Z, a function of the weight
and of the length scales of the fields.  Where these are known Z is a constant; where one is unknown
it belongs to the density, or the unknown is driven to where Z is large whatever the data say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.polynomial import chebyshev

from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import in_turn, number
from bayesjoint.couplings import _series
from bayesjoint.priors import Prior

TAIL = 3.09  # white coordinate beyond which a thousandth of a prior lies
END = 8.0  # beyond which nothing is drawn
ROUNDING = 1e-9
NEGLIGIBLE = 1e-3  # of the largest error: directions with less are left out


@dataclass(frozen=True, eq=False)
class Normaliser:
    """log Z of a coupled prior, a function of weight and length scales, with its error.

    Made by `tabulate_normaliser`; given to a coupling as ``normaliser=``.

    Parameters
    ----------
    weight : array, shape (n,)
        From zero, at each length scale; the table holds up to the largest.
    mean : array, shape (n,)
        Mean of phi, the potential of weight one, over the coupled prior at each place.
    error : array, shape (n,)
        Monte Carlo standard error of each mean.
    made_for : str
        Digest of the coupling and the priors it was tabulated for.
    length_scale : mapping of field to array, shape (n,)
        Length scale of each field that the table is over; the table holds between the smallest
        and the largest.

    Raises
    ------
    ValueError
        When a length scale has fewer than four weights, these do not ascend from zero, fewer than
        four values of a length scale are given, or an error is not positive.

    Notes
    -----
    Thermodynamic integration at each length scale, ``d log Z / d w = -E_w[phi]`` (Gelman & Meng
    1998, doi 10.1214/ss/1028905934), from weight zero, where Z is one for every length scale.  In
    ``s = log(1 + w / w0)``, ``w0 = 1 / E_0[phi]``, the integrand ``(w + w0) E_w[phi]`` is smooth
    and bounded.  A Chebyshev series in s and the logarithms of the length scales is fitted to it by
    weighted least squares, ``log w0`` being a parabola in these logarithms, and integrated exactly
    along s.  The series is as short as the errors allow; if no series fits, errors are raised by
    the misfit.

    Examples
    --------
    For the potential ``w m^2 / 2`` of a standard normal variable, ``log Z = -log(1 + w) / 2``:

    >>> import numpy as np
    >>> from bayesjoint.couplings.normaliser import Normaliser
    >>> weight = np.concatenate([[0.0], np.geomspace(0.1, 100.0, 12)])
    >>> table = Normaliser(weight, 0.5 / (1.0 + weight), np.full(13, 1e-6))
    >>> bool(abs(table.log_z(10.0) + 0.5 * np.log(11.0)) < 1e-4)
    True
    """

    weight: Any
    mean: Any
    error: Any
    made_for: str = field(default="", repr=False)
    _: KW_ONLY
    length_scale: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight", "mean", "error"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        lengths = {k: np.asarray(v, dtype=float) for k, v in self.length_scale.items()}
        object.__setattr__(self, "length_scale", lengths)
        shapes = {a.shape for a in (self.weight, self.mean, self.error, *lengths.values())}
        if len(shapes) > 1 or self.weight.ndim != 1:
            raise ValueError(
                "Normaliser: four weights or more are needed, with mean and error each, and with "
                "the length scales that the table is over"
            )
        self._check_places(lengths)
        if not (self.mean > 0).all() or not (self.error > 0).all():
            raise ValueError("Normaliser: means and errors must be positive; draw more")

    def _check_places(self, lengths: Mapping[str, np.ndarray]) -> None:
        for name, values in lengths.items():
            if np.unique(values).size < 4 or not values.min() > 0:
                raise ValueError(
                    f"Normaliser: four positive length scales of {name!r} or more are needed"
                )
        rows = np.stack([*lengths.values(), np.zeros(self.weight.size)], axis=1)
        for row in np.unique(rows, axis=0):
            weights = self.weight[(rows == row).all(axis=1)]
            if weights.size < 4:
                raise ValueError(
                    "Normaliser: four weights or more are needed, at each length scale, with mean "
                    "and error each"
                )
            if weights[0] != 0.0 or not (np.diff(weights) > 0).all():
                raise ValueError("Normaliser: weights must ascend from zero")

    @property
    def largest(self) -> float:
        """The weight up to which the table holds."""
        return float(self.weight.max())

    def range_of(self, name: str) -> tuple[float, float]:
        """Return the length scales of a field between which the table holds."""
        return float(self.length_scale[name].min()), float(self.length_scale[name].max())

    # ---- what a problem asks ------------------------------------------------------------------

    def check(self, coupling: Any, latents: Mapping[str, Any], made_for: str) -> None:
        """Raise unless the table fits a coupling and covers what is unknown."""
        owner = coupling.name
        if self.made_for and self.made_for != made_for:
            raise ValueError(
                f"{owner}: the normaliser was made for other settings of the coupling or other "
                "priors of its fields; tabulate it again with bj.tabulate_normaliser"
            )
        self._check_weight(owner, coupling.weight)
        for name in self.length_scale:
            self._check_length_scale(owner, name, latents[name].length_scale)

    def _check_weight(self, owner: str, weight: Any) -> None:
        if not isinstance(weight, Prior):
            if np.ndim(weight) or weight > self.largest:
                raise ValueError(
                    f"{owner}: the normaliser is for one weight of all cells, up to "
                    f"{self.largest:.3g}; give such a number, or tabulate it further"
                )
            return
        low, high = _reach(owner, weight, TAIL)
        if low < 0 or high > self.largest:
            raise ValueError(
                f"{owner}: the prior of the weight reaches from {low:.3g} to {high:.3g} (99.8 %), "
                f"the normaliser from 0 to {self.largest:.3g}; tabulate it further, or narrow the "
                "prior"
            )

    def _check_length_scale(self, owner: str, name: str, value: Any) -> None:
        least, most = self.range_of(name)
        if not isinstance(value, (Prior, int, float)):
            raise ValueError(
                f"{owner}: the normaliser is over one length scale of {name!r}, which has another "
                "along each dimension or none; give it one"
            )
        low, high = _reach(owner, value, END) if isinstance(value, Prior) else (value, value)
        if low < least * (1 - ROUNDING) or high > most * (1 + ROUNDING):
            raise ValueError(
                f"{owner}: the length scale of {name!r} reaches from {low:.3g} to {high:.3g}, the "
                f"normaliser from {least:.3g} to {most:.3g}; give a prior that ends there, "
                f"bj.Prior(pm.Uniform, lower={least:.4g}, upper={most:.4g}) or pm.TruncatedNormal, "
                "or tabulate it further"
            )

    def add_to_model(
        self, build: ModelBuild, coupling: str, weight: Any, lengths: Mapping[str, Any]
    ) -> None:
        """Add ``-log Z`` to a model; its error enters as white variables.

        Parameters
        ----------
        build : ModelBuild
        coupling : str
        weight : float or tensor
        lengths : mapping of field to float or tensor
        """
        name = f"{coupling}_normaliser"
        factor = self._error_modes(weight, lengths)
        white = pm.Normal(f"{name}_white", shape=factor.shape[1])
        coefficients = pt.as_tensor(self._fit.coefficients) + pt.as_tensor(factor) @ white
        columns = self._columns(weight, lengths, pt)
        log_z = sum(coefficients[k] * column for k, column in enumerate(columns))
        pm.Potential(name, -log_z)
        build.log_priors[name] = -log_z - 0.5 * (white**2 + np.log(2 * np.pi)).sum()

    def _error_modes(self, weight: Any, lengths: Mapping[str, Any]) -> np.ndarray:
        """Return errors of the coefficients, shape (term, mode), that move log Z.

        At a known weight many combinations of coefficients are one and the same.
        """
        axes = [
            np.array([value]) if isinstance(value, (int, float)) else _between(*ends)
            for value, ends in zip(
                (weight, *(lengths[n] for n in self.length_scale)),
                ((0.0, self.largest), *map(self.range_of, self.length_scale)),
                strict=True,
            )
        ]
        at, *others = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
        columns = self._columns(at, dict(zip(self.length_scale, others, strict=True)), np)
        moved = np.stack(columns, axis=1) @ self._fit.factor
        _, sizes, rows = np.linalg.svd(moved, full_matrices=False)
        return self._fit.factor @ rows[sizes > NEGLIGIBLE * sizes[0]].T

    # ---- the series ---------------------------------------------------------------------------

    def _where(self, name: str, length: Any, xp: Any) -> Any:
        """Return where a length scale lies between -1 and 1."""
        low, high = np.log(self.range_of(name))
        return (2.0 * xp.log(length) - low - high) / (high - low)

    @cached_property
    def _first(self) -> tuple[tuple[int, ...], np.ndarray]:
        """Return the parabola of the logarithm of ``E_0[phi]``: degrees and coefficients."""
        start = self.weight == 0.0
        where = [self._where(n, v[start], np) for n, v in self.length_scale.items()]
        degrees = (2,) * len(where)
        axes = [chebyshev.chebvander(w, 2).T for w in where]
        basis = np.stack(_series.products([np.ones((1, start.sum())), *axes]), axis=1)
        return degrees, np.linalg.lstsq(basis, np.log(self.mean[start]), rcond=None)[0]

    def _places(self, weight: Any, where: Sequence[Any], xp: Any) -> tuple[Any, Any, Any]:
        """Return ``1/w0``, log(1 + w/w0) of the largest weight, and where a weight lies."""
        degrees, coefficients = self._first
        axes = [_series.polynomials(w, d, xp) for w, d in zip(where, degrees, strict=True)]
        columns = _series.products([[1.0], *axes])
        first = xp.exp(sum(c * column for c, column in zip(coefficients, columns, strict=True)))
        span = xp.log1p(self.largest * first)
        return first, span, 2.0 * xp.log1p(weight * first) / span - 1.0

    @cached_property
    def _fit(self) -> _series.Series:
        where = [self._where(n, v, np) for n, v in self.length_scale.items()]
        first, _, place = self._places(self.weight, where, np)
        scale = self.weight + 1.0 / first
        counts = [np.unique(v).size for v in self.length_scale.values()]
        most = [self.weight.size // int(np.prod(counts)) - 2, *(c - 2 for c in counts)]
        return _series.fit([place, *where], scale * self.mean, scale * self.error, most)

    @property
    def degree(self) -> int:
        """Degree of the series along the weight."""
        return self._fit.degrees[0]

    def _columns(self, weight: Any, lengths: Mapping[str, Any], xp: Any) -> list[Any]:
        """Return what log Z gains from one unit of each coefficient."""
        where = [self._where(name, lengths[name], xp) for name in self.length_scale]
        _, span, place = self._places(weight, where, xp)
        inside = xp.minimum(place, 1.0)
        # Beyond the table the integrand stays as it is at the end, where every polynomial is one.
        along, *degrees = self._fit.degrees
        first = [row + (place - inside) for row in _series.integrals(inside, along, xp)]
        rest = [_series.polynomials(w, d, xp) for w, d in zip(where, degrees, strict=True)]
        return [-0.5 * span * column for column in _series.products([first, *rest])]

    def _stacked(self, weight: Any, length_scale: Mapping[str, Any] | None) -> np.ndarray:
        given = [weight, *((length_scale or {})[name] for name in self.length_scale)]
        at, *others = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in given))
        lengths = dict(zip(self.length_scale, others, strict=True))
        return np.stack(self._columns(at, lengths, np))

    def log_z(self, weight: Any, length_scale: Mapping[str, Any] | None = None) -> np.ndarray:
        """Return log Z at weights, and at length scales where the table is over these."""
        return np.tensordot(self._fit.coefficients, self._stacked(weight, length_scale), 1)

    def standard_error(
        self, weight: Any, length_scale: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Return the Monte Carlo standard error of log Z there."""
        columns = self._stacked(weight, length_scale)
        return np.linalg.norm(np.tensordot(self._fit.factor.T, columns, 1), axis=0)


@dataclass(frozen=True, eq=False)
class Omitted:
    """Stands for a normaliser while it is tabulated, at one length scale after the other."""

    length_scale: Sequence[str]
    made_for: str = ""

    def check(self, coupling: Any, latents: Mapping[str, Any], made_for: str) -> None:
        """Accept all."""

    def add_to_model(self, *_: Any) -> None:
        """Add nothing."""


@in_turn()
def _reach(owner: str, prior: Prior, tail: float) -> tuple[float, float]:
    """Return the quantiles of a prior at two white coordinates of one size."""
    if not prior.is_white:
        raise ValueError(f"{owner}: {prior!r} has no quantiles; use pm.LogNormal or another")
    low, high = (float(number(prior.from_white(pt.constant(z)))) for z in (-tail, tail))
    return low, high


def _between(low: float, high: float) -> np.ndarray:
    return np.geomspace(low or 1e-4 * high, high, 15)
