"""The normaliser of a coupled prior, which an unknown coupling weight needs.

A potential ``exp(-w phi)`` times the prior of the fields integrates to Z(w).  With a known weight Z
is a constant; with an unknown one it belongs to the density, or the weight is driven to where Z is
large whatever the data say.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.polynomial import chebyshev

from bayesjoint._build import ModelBuild
from bayesjoint.priors import Prior

TAIL = 3.09  # white coordinate beyond which a thousandth of a prior lies


@dataclass(frozen=True, eq=False)
class Normaliser:
    """log Z of a coupled prior as a function of the weight, with its Monte Carlo error.

    Made by `tabulate_normaliser`; given to a coupling as ``normaliser=``.

    Parameters
    ----------
    weight : array, shape (n,)
        Ascending from zero; the table holds up to the last.
    mean : array, shape (n,)
        Mean of phi, the potential of weight one, over the coupled prior at each weight.
    error : array, shape (n,)
        Monte Carlo standard error of each mean.
    made_for : str
        Digest of the coupling and the priors it was tabulated for.

    Raises
    ------
    ValueError
        When fewer than four weights are given, they do not ascend from zero, or an error is not
        positive.

    Notes
    -----
    Thermodynamic integration, ``d log Z / d w = -E_w[phi]`` (Gelman & Meng 1998,
    doi 10.1214/ss/1028905934).  In ``s = log(1 + w / w0)``, ``w0 = 1 / E_0[phi]``, the integrand
    ``(w + w0) E_w[phi]`` is smooth and bounded; a Chebyshev series is fitted to it by weighted
    least squares and integrated exactly.  The series is as short as the errors allow
    (chi-squared per degree of freedom); if no series fits, errors are raised by the misfit.

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

    def __post_init__(self) -> None:
        arrays = [np.asarray(v, dtype=float) for v in (self.weight, self.mean, self.error)]
        for name, array in zip(("weight", "mean", "error"), arrays, strict=True):
            object.__setattr__(self, name, array)
        weight, mean, error = arrays
        if weight.ndim != 1 or weight.size < 4 or not weight.shape == mean.shape == error.shape:
            raise ValueError(
                "Normaliser: four weights or more are needed, with mean and error each"
            )
        if weight[0] != 0.0 or not np.all(np.diff(weight) > 0):
            raise ValueError("Normaliser: the weights must ascend from zero")
        if not np.all(error > 0) or not mean[0] > 0:
            raise ValueError("Normaliser: means and errors must be positive; draw more")

    @property
    def largest(self) -> float:
        """The weight up to which the table holds."""
        return float(self.weight[-1])

    @cached_property
    def _unit(self) -> float:
        return float(1.0 / self.mean[0])

    @cached_property
    def _span(self) -> float:
        return float(np.log1p(self.largest / self._unit))

    def check(self, owner: str, weight: Prior, made_for: str) -> None:
        """Raise unless the table fits a coupling and covers the prior of its weight."""
        if self.made_for and self.made_for != made_for:
            raise ValueError(
                f"{owner}: the normaliser was made for other settings of the coupling or other "
                "priors of its fields; tabulate it again with bj.tabulate_normaliser"
            )
        if not weight.is_white:
            raise ValueError(f"{owner}: {weight!r} has no quantiles; use pm.LogNormal or another")
        low, high = (float(weight.from_white(pt.constant(z)).eval()) for z in (-TAIL, TAIL))
        if low < 0 or high > self.largest:
            raise ValueError(
                f"{owner}: the prior of the weight reaches from {low:.3g} to {high:.3g} (99.8 %), "
                f"the normaliser from 0 to {self.largest:.3g}; tabulate it further, or narrow the "
                "prior"
            )

    def _place(self, weight, xp=np):
        """Return where a weight lies between -1 and 1."""
        return 2.0 * xp.log1p(weight / self._unit) / self._span - 1.0

    @cached_property
    def _fit(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of the integrand's series and a factor of their covariance."""
        place = self._place(self.weight)
        scale = self.weight + self._unit
        target, error = scale * self.mean, scale * self.error
        last = self.weight.size - 2
        enough = last
        for degree in range(2, last + 1):
            basis = chebyshev.chebvander(place, degree)
            whitened = basis / error[:, None]
            coefficients = np.linalg.lstsq(whitened, target / error, rcond=None)[0]
            misfit = np.sum((whitened @ coefficients - target / error) ** 2)
            excess = misfit / (self.weight.size - degree - 1)
            if excess <= 1.0 + 2.0 * np.sqrt(2.0 / (self.weight.size - degree - 1)):
                enough = min(enough, degree + 1)  # one more: what is left out must not show
            if degree == enough:
                break
        covariance = np.linalg.inv(whitened.T @ whitened) * max(excess, 1.0)
        return coefficients, np.linalg.cholesky(covariance)

    @property
    def degree(self) -> int:
        """Degree of the series."""
        return self._fit[0].size - 1

    def _integrals(self, place, xp=np) -> list:
        """Return the integrals of the Chebyshev polynomials from -1 to a place."""
        powers = [xp.ones_like(place), place]
        for _ in range(2, self.degree + 2):
            powers.append(2.0 * place * powers[-1] - powers[-2])
        integrals = []
        for k in range(self.degree + 1):
            series = chebyshev.chebint(np.eye(self.degree + 1)[k], lbnd=-1.0)
            integrals.append(sum(c * powers[i] for i, c in enumerate(series) if c != 0.0))
        return integrals

    def log_z(self, weight) -> np.ndarray:
        """Return log Z at weights."""
        integrals = self._integrals(self._place(np.asarray(weight, dtype=float)))
        return -0.5 * self._span * np.tensordot(self._fit[0], np.array(integrals), 1)

    def standard_error(self, weight) -> np.ndarray:
        """Return the Monte Carlo standard error of log Z at weights."""
        integrals = np.array(self._integrals(self._place(np.asarray(weight, dtype=float))))
        return 0.5 * self._span * np.linalg.norm(np.tensordot(self._fit[1].T, integrals, 1), axis=0)

    def tensor(self, build: ModelBuild, name: str, weight):
        """Return log Z of an unknown weight; its error enters as white variables of the model."""
        white = pm.Normal(f"{name}_normaliser_white", shape=self.degree + 1)
        build.log_priors[f"{name}_normaliser"] = -0.5 * (white**2 + np.log(2 * np.pi)).sum()
        coefficients = pt.as_tensor(self._fit[0]) + pt.as_tensor(self._fit[1]) @ white
        place = self._place(weight, pt)
        inside = pt.minimum(place, 1.0)
        integrals = self._integrals(inside, pt)
        # Beyond the table the integrand stays as it is at the end, where every polynomial is one.
        beyond = place - inside
        terms = [coefficients[k] * (integral + beyond) for k, integral in enumerate(integrals)]
        return -0.5 * self._span * sum(terms[1:], start=terms[0])


def digest(coupling: Any, latents: Mapping[str, Any], couplings: Sequence[Any]) -> str:
    """Return a digest of all that log Z depends on, but for the weight."""
    touched = [c for c in couplings if set(c.latents) & set(coupling.latents)]
    others = [c for c in touched if c.name != coupling.name]
    parts = [_plain(coupling, {"weight", "normaliser"}), *(_plain(c) for c in others)]
    # Dimensionless: neither sd nor mean nor units matter.
    left_out = {"sd", "mean", "units"}
    parts += [_plain(latents[name], left_out) for c in touched for name in c.latents]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain(value: Any, left_out: Any = frozenset()) -> Any:
    """Return a value as numbers and names that print alike in every process."""
    if isinstance(value, Prior):
        return repr(value)
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.name not in left_out]
        return [type(value).__name__, *((name, _plain(getattr(value, name))) for name in kept)]
    if isinstance(value, Mapping):
        return [(key, _plain(value[key])) for key in value]
    if callable(value):
        return getattr(value, "__qualname__", repr(type(value)))
    if hasattr(value, "toarray"):
        value = value.toarray()
    return value if value is None or isinstance(value, str) else np.asarray(value).tolist()
