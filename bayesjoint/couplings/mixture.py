"""Petrophysical coupling: a Gaussian mixture of rock units, marginalised over the units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _validate, arrays
from bayesjoint._errors import processes as _processes
from bayesjoint._graph.build import ModelBuild
from bayesjoint._kernels.mixture import GaussianMixture, correlation_factors
from bayesjoint._replace import Replaceable
from bayesjoint.couplings import _mixture_settings
from bayesjoint.couplings._common import fields_on_one_grid
from bayesjoint.couplings._quantile import MixtureQuantile
from bayesjoint.priors import Prior


@dataclass(frozen=True, eq=False)
class PropertyMixture(Replaceable):
    """Properties that follow a Gaussian mixture of rock units: a joint prior, always normalised.

    In every cell the properties are distributed as the mixture; the fields give the spatial
    correlation alone, so that each is stated with ``sd=1`` and no mean.

    Parameters
    ----------
    name : str
        Name of the coupling.
    labels : sequence of str, length K
        Names of the units.
    proportions : array, shape (K,), or Prior
        Probability of each unit in a cell, which add up to one; unknown:
        ``bj.Prior(pm.Dirichlet, a=[2, 2])``, the hyperparameter ``<name>_proportions``.
    means : mapping of str to array, shape (K,), or Prior
        Mean of each unit, for each of the fields that are coupled, in their units.  Unknown:
        ``bj.Prior(pm.Normal, mu=[2.0, 4.5], sigma=0.2)``, the hyperparameter
        ``<name>_mean_<field>``.
    sds : mapping of str to float, array of shape (K,), or Prior
        Standard deviation within each unit; a number holds for all.  Unknown:
        ``<name>_sd_<field>``.
    correlation : float or array, shape (K,), (P, P) or (K, P, P), or Prior; with several fields
        Correlation within units: of all pairs and units, one a unit, a matrix for all, or one a
        unit.  Unknown: ``bj.Prior(pm.Uniform, lower=-1, upper=1)`` for two fields, with arrays of
        shape (K,) one a unit; ``bj.Prior(pm.LKJCorr, eta=2, n=P)``; ``<name>_correlation``.

    Raises
    ------
    ValueError
        When a setting is missing, of another shape or not valid, a field is not standard, or the
        priors do not tell two units apart.

    Notes
    -----
    ``p(x) = sum_k proportion_k N(x; mean_k, S_k)`` in each cell.  With ``u_1, u_2 ...`` the
    standard fields, independent of each other, the first property is the quantile of its own
    mixture at ``Phi(u_1)``, the next one that of its mixture given the first, and so on (Rosenblatt
    1952, doi 10.1214/aoms/1177729394).  Since this is a map of white numbers, the prior is
    normalised whatever is unknown in it, and no unit is sampled: `bj.membership` gives the
    probability of each unit in each cell.  One unit alone is a Gaussian prior of correlated
    fields.  The order of the fields does not matter for what is in one cell; it does, a little, for
    how neighbours resemble each other: put first what shows the units best.

    Where no prior tells two units apart, their labels can be exchanged without any change, and the
    posterior of each is that of both: means, sds or proportions must differ between them in what is
    known, or in their priors.  Priors that overlap widely may still let labels change places during
    sampling; priors of the means that hardly overlap keep each unit where its name belongs.

    Units that hardly overlap make the map steep, and many cells may be in either: the posterior has
    many modes, which chains change between slowly.  Look at several chains.

    Bounds of a unit become a normal distribution that has most of its probability between them:
    see `from_bounds`.

    Examples
    --------
    >>> import pymc as pm
    >>> import bayesjoint as bj
    >>> rocks = bj.PropertyMixture(
    ...     "rocks", labels=["sediment", "basement"],
    ...     proportions=bj.Prior(pm.Dirichlet, a=[4.0, 4.0]),
    ...     means={
    ...         "velocity": [2.2, 4.5], "density": bj.Prior(pm.Normal, mu=[2200, 2700], sigma=50)
    ...     },
    ...     sds={"velocity": [0.3, 0.4], "density": 60.0}, correlation=0.5,
    ... )
    >>> rocks.unknowns()
    ['rocks_proportions', 'rocks_mean_density']
    """

    name: str
    _: KW_ONLY
    labels: Sequence[str]
    proportions: Any
    means: Mapping[str, Any]
    sds: Mapping[str, Any]
    correlation: Any = None

    def __post_init__(self) -> None:
        _validate.require_name("PropertyMixture", self.name)
        labels = _validate.parts(self.owner, "labels", self.labels)
        _validate.require_names(f"{self.owner}: labels", labels)
        object.__setattr__(self, "labels", labels)
        for setting in ("means", "sds"):
            given, example = getattr(self, setting), '{"velocity": [2.2, 4.5]}'
            _validate.require_mapping(self.owner, setting, given, example)
            object.__setattr__(self, setting, arrays.ReadOnly(given))
        if self.labels and self.means:
            for setting, value in _mixture_settings.read(self).items():
                object.__setattr__(self, setting, arrays.keep(value))
        _mixture_settings.check(self)

    # ---- what a problem asks of a coupling ----------------------------------------------------

    @property
    def owner(self) -> str:
        """What it is called in messages."""
        return f"PropertyMixture {self.name!r}"

    @property
    def latents(self) -> tuple[str, ...]:
        """The coupled fields."""
        return tuple(self.means)

    shapes = latents

    @property
    def unit(self) -> str:
        """Name of the dimension of the units."""
        return f"{self.name}_unit"

    @property
    def coords(self) -> dict[str, list[str]]:
        """Labels along the dimension of the units."""
        return {self.unit: list(self.labels)}

    def before(self, name: str) -> tuple[str, ...]:
        """Return the fields that must be known before the one named."""
        return self.latents[: self.latents.index(name)]

    def sources_of(self, names: set[str]) -> set[str]:
        """Return the fields that some others follow from: those before."""
        return {before for name in names & set(self.latents) for before in self.before(name)}

    def unknowns(self) -> list[str]:
        """Return the names of its unknown settings."""
        return list(self.priors())

    def priors(self) -> dict[str, Prior]:
        """Return the priors of its unknown settings, by name."""
        return {key: value for key, value in self._settings.items() if isinstance(value, Prior)}

    @classmethod
    def from_bounds(
        cls,
        name: str,
        bounds: Mapping[str, Mapping[str, tuple[float, float]]],
        *,
        proportions: Any,
        correlation: Any = None,
        inside: float = 0.95,
    ) -> "PropertyMixture":
        """Return the mixture of units that are stated by bounds of their properties.

        Each unit has its mean in the middle between the bounds, and the share ``inside`` of its
        probability between them, property by property: bounds are soft, so that data may overrule
        them.

        Parameters
        ----------
        name : str
        bounds : mapping of label to mapping of field to (lower, upper)
        proportions, correlation
            As for the class.
        inside : float
            Between 0 and 1.

        Raises
        ------
        ValueError
            When bounds of a field are missing or not ascending, and as for the class.

        Examples
        --------
        >>> import bayesjoint as bj
        >>> rocks = bj.PropertyMixture.from_bounds(
        ...     "rocks",
        ...     {
        ...         "salt": {"velocity": (4.3, 4.7), "density": (2100, 2200)},
        ...         "sediment": {"velocity": (1.8, 4.0), "density": (1900, 2500)},
        ...     },
        ...     proportions=[0.2, 0.8], correlation=0.0,
        ... )
        >>> rocks.means["velocity"]
        array([4.5, 2.9])
        """
        means, sds = _mixture_settings.between(f"PropertyMixture {name!r}", bounds, inside)
        return cls(
            name, labels=list(bounds), proportions=proportions, correlation=correlation,
            means=means, sds=sds,
        )  # fmt: skip

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            f"{self.name}_proportions": self.proportions,
            **{f"{self.name}_mean_{field}": value for field, value in self.means.items()},
            **{f"{self.name}_sd_{field}": self.sds[field] for field in self.means},
            f"{self.name}_correlation": 0.0 if self.correlation is None else self.correlation,
        }

    def restricted(self, kept: set[str]) -> "PropertyMixture | None":
        """Return the mixture of the fields that are left, the same in their own cells."""
        index = [i for i, name in enumerate(self.latents) if name in kept]
        if not index:
            return None
        names = [self.latents[i] for i in index]
        correlation = _processes.correlation_among(self.correlation, index, len(self.latents))
        correlation = correlation if len(index) > 1 else None
        return PropertyMixture(
            self.name, labels=self.labels, proportions=self.proportions,
            means={n: self.means[n] for n in names}, sds={n: self.sds[n] for n in names},
            correlation=correlation,
        )  # fmt: skip

    def renamed(self, names: Mapping[str, str]) -> "PropertyMixture":
        """Return the same mixture of other fields, under the name that ends as theirs do."""
        own = {name: names.get(name, name) for name in self.latents}
        ending = next((new.removeprefix(old) for old, new in own.items() if new != old), "")
        return PropertyMixture(
            f"{self.name}{ending}", labels=self.labels, proportions=self.proportions,
            means={own[n]: value for n, value in self.means.items()},
            sds={own[n]: value for n, value in self.sds.items()},
            correlation=self.correlation,
        )  # fmt: skip

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless the fields lie on one grid and are standard."""
        for field in fields_on_one_grid(self.owner, [latents[name] for name in self.latents]):
            numbers = not isinstance(field.sd, Prior) and not isinstance(field.mean, Prior)
            if field.precision is not None or not numbers or field.sd != 1 or np.any(field.mean):
                raise ValueError(
                    f"{self.owner}: mean and sd of {field.name!r} are those of the units; give the "
                    "field sd=1, no mean, and a length_scale"
                )

    # ---- the model ----------------------------------------------------------------------------

    def shape(self, build: ModelBuild, field: Any) -> tuple[Any, float]:
        """Return the white coordinates of the standard field."""
        return build.whites[field.name], 0.0

    def from_standard(self, build: ModelBuild, field: Any, standard: Any) -> Any:
        """Return the tensor of a property from that of its standard field."""
        index = self.latents.index(field.name)
        log_weights = pt.log(self._setting(build, f"{self.name}_proportions"))
        row = self._factor(build) if index else lambda i, j: 1.0
        whitened: list[Any] = []
        for j, name in enumerate(self.latents[:index]):
            mean, sd = self._moments(build, name)
            moved = (build.values[name].ravel()[:, None] - mean) / sd
            e = (moved - sum(row(j, i) * whitened[i] for i in range(j))) / row(j, j)
            log_weights = log_weights - 0.5 * e**2 - pt.log(sd * row(j, j))
            whitened.append(e)
        mean, sd = self._moments(build, field.name, field.units or "")
        mean = mean + sd * sum(row(index, i) * e for i, e in enumerate(whitened))
        shape = (field.grid.size, len(self.labels))
        log_weights = log_weights - pt.logsumexp(log_weights, axis=-1, keepdims=True)
        given = (log_weights, mean, sd * row(index, index))
        wide = [pt.broadcast_to(tensor, shape) for tensor in given]
        return MixtureQuantile()(standard.ravel(), *wide).reshape(field.shape)

    def _moments(self, build: ModelBuild, name: str, units: str = "") -> tuple[Any, Any]:
        """Return means and sds of the units."""
        mean = self._setting(build, f"{self.name}_mean_{name}", units)
        return mean, self._setting(build, f"{self.name}_sd_{name}", units)

    def _setting(self, build: ModelBuild, key: str, units: str = "") -> Any:
        """Return the tensor of a setting; an unknown one is added to the model the first time."""
        value = self._settings[key]
        if not isinstance(value, Prior):
            return pt.as_tensor(np.asarray(value, dtype=float))
        if key not in build.values:
            build.add_coords(self.coords)
            of_all = key == f"{self.name}_correlation" and value.dist().ndim == 0
            build.unknown(key, value, dims=None if of_all else (self.unit,), units=units)
        return build.values[key]

    @property
    def _of_matrix(self) -> bool:
        """Whether the correlation of all units is an unknown matrix."""
        return isinstance(self.correlation, Prior) and self.correlation.dist().ndim == 2

    def _factor(self, build: ModelBuild) -> Callable[[int, int], Any]:
        """Return what gives element (i, j) of the factors of the correlation, one a unit."""
        if not isinstance(self.correlation, Prior):
            factors = self._factors(self.correlation)
            return lambda i, j: pt.constant(factors[:, i, j])
        key = f"{self.name}_correlation"
        if self._of_matrix:
            if key not in build.shared:
                matrix = build.correlation(key, self.correlation, self.latents)
                build.shared[key] = pt.linalg.cholesky(matrix)
            return lambda i, j: build.shared[key][i, j]
        given = self._setting(build, key)
        elements = {(0, 0): pt.ones(()), (1, 0): given, (1, 1): pt.sqrt(1.0 - given**2)}
        return lambda i, j: elements[i, j]

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add nothing: the fields have been shaped when they were added."""

    # ---- numbers ------------------------------------------------------------------------------

    def _factors(self, correlation: Any) -> np.ndarray:
        given = 0.0 if correlation is None else correlation
        return correlation_factors(given, len(self.labels), len(self.latents))

    def numbers(self, values: Mapping[str, Any]) -> GaussianMixture:
        """Return the mixture in numbers, given values of unknown settings by name."""
        size = len(self.labels)
        given = {
            key: values.get(key, value) if isinstance(value, Prior) else value
            for key, value in self._settings.items()
        }
        moments = [
            np.stack(
                [np.broadcast_to(given[f"{self.name}_{kind}_{n}"], size) for n in self.latents],
                axis=1,
            ).astype(float)
            for kind in ("mean", "sd")
        ]
        proportions = np.asarray(given[f"{self.name}_proportions"], dtype=float)
        correlation = given[f"{self.name}_correlation"]
        if self._of_matrix:  # one number a pair
            correlation = _processes.correlation_matrix(correlation, len(self.latents))
        factors = self._factors(correlation)
        return GaussianMixture(proportions, moments[0], moments[1], factors)

    def overall_sd(self, name: str) -> float:
        """Return the prior sd of a property, over all units, where all settings are known."""
        return float(self.numbers({}).overall_sds[self.latents.index(name)])

    def standard(self, name: str, values: Mapping[str, Any], value: np.ndarray) -> np.ndarray:
        """Return the standard field that gives a property some value, given those before it."""
        fields = [np.ravel(values[n]) for n in self.before(name)]
        x = np.stack([*fields, np.ravel(value)], axis=1)
        return self.numbers(values).standard(x).reshape(np.shape(value))

    def local(self, name: str, values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the slope of a property in its standard field, and in the fields before it.

        Shapes (cell,) and (field before, cell).
        """
        fields = [np.ravel(values[n]) for n in (*self.before(name), name)]
        return self.numbers(values).local(np.stack(fields, axis=1))
