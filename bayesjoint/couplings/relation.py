"""Petrophysical coupling: one property is a function of others, with scatter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import pushforward
from pytensor.graph.replace import graph_replace

from bayesjoint import _validate, arrays
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.outputs import tensor
from bayesjoint._replace import Replaceable
from bayesjoint.couplings._common import same_grid
from bayesjoint.priors import Prior


@dataclass(frozen=True, eq=False)
class PropertyRelation(Replaceable):
    """A property that is a function of others plus scatter: a joint prior, always normalised.

    ``b = mean_b + f(a; theta) + scatter``.  The prior given to the field ``b`` becomes that of the
    scatter: its sd says how well the relation holds, its length scale over what distance the
    departures from it are alike.

    Parameters
    ----------
    latent : str
        Name of the field b.
    given : str or tuple of str
        Names of the latents a that it follows from: fields on the same grid, or scalar parameters.
    function : callable
        ``function(*a, **coefficients) -> tensor``, cell by cell, written with operators and
        PyTensor; a function at module level, so that the problem can be pickled.
    coefficients : mapping of str to float or Prior
        Passed by name; an unknown one becomes the hyperparameter ``<b>_<coefficient>``.

    Raises
    ------
    ValueError
        When b is among ``given``, a coefficient is not a number or prior, or the function does not
        give one finite value a cell that depends on that cell alone.

    Notes
    -----
    For instance Gardner et al. (1974), doi 10.1190/1.1440465, for density from velocity; Archie
    (1942), doi 10.2118/942054-G, for resistivity from porosity.  Linearised reports take the
    slope of the relation at the point.

    Examples
    --------
    >>> import pymc as pm
    >>> import bayesjoint as bj
    >>> def gardner(velocity, factor, power):
    ...     return 1000.0 * factor * velocity**power
    >>> relation = bj.PropertyRelation(
    ...     "density", given="velocity", function=gardner,
    ...     coefficients={"factor": 0.31, "power": bj.Prior(pm.Normal, mu=0.25, sigma=0.02)},
    ... )
    >>> relation.name
    'relation_density'
    """

    latent: str
    _: KW_ONLY
    given: Any
    function: Callable[..., Any]
    coefficients: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _validate.require_names("PropertyRelation: latent", [self.latent])
        parents = [self.given] if isinstance(self.given, str) else self.given
        parents = _validate.parts(self.name, "given", parents)
        _validate.require_names(f"{self.name}: given", parents)
        object.__setattr__(self, "given", self.given if isinstance(self.given, str) else parents)
        _validate.require_mapping(self.name, "coefficients", self.coefficients, '{"slope": 2.0}')
        if self.latent in self.parents:
            raise ValueError(f"{self.name}: {self.latent!r} cannot be given for itself")
        _validate.require_unique(f"{self.name}: given", self.parents)
        if not self.parents:
            raise ValueError(f"{self.name}: given is empty; name the latents it follows from")
        if not callable(self.function):
            raise ValueError(f"{self.name}: the function must be callable")
        coefficients = {
            key: _validate.number(self.name, f"coefficient {key!r}", value)
            for key, value in self.coefficients.items()
        }
        for key in coefficients:
            _validate.require_name(f"{self.name}: coefficient", key)
        object.__setattr__(self, "coefficients", arrays.ReadOnly(coefficients))

    @property
    def parents(self) -> tuple[str, ...]:
        """The latents that the property follows from."""
        return (self.given,) if isinstance(self.given, str) else tuple(self.given)

    @property
    def name(self) -> str:
        """Name of the coupling."""
        return f"relation_{self.latent}"

    @property
    def latents(self) -> tuple[str, ...]:
        """What it couples: first what is given."""
        return (*self.parents, self.latent)

    @property
    def shapes(self) -> tuple[str, ...]:
        """The field whose prior it shapes."""
        return (self.latent,)

    def before(self, name: str) -> tuple[str, ...]:
        """Return the latents that must be known before the one named."""
        return self.parents

    def sources_of(self, names: set[str]) -> set[str]:
        """Return the latents that some others follow from."""
        return set(self.parents) if self.latent in names else set()

    def unknowns(self) -> list[str]:
        """Return the names of its unknown coefficients."""
        return list(self.priors())

    def priors(self) -> dict[str, Prior]:
        """Return the priors of its unknown coefficients, by name."""
        given = self.coefficients.items()
        return {f"{self.latent}_{key}": v for key, v in given if isinstance(v, Prior)}

    def restricted(self, kept: set[str]) -> "PropertyRelation | None":
        """Return the relation where its field is left; what it follows from must be left too."""
        return self if self.latent in kept else None

    def renamed(self, names: Mapping[str, str]) -> "PropertyRelation":
        """Return the coupling of latents of other names."""
        first, *given = (names.get(name, name) for name in (self.latent, *self.parents))
        return self.replace(latent=first, given=given)

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless the latents fit, and the function works cell by cell."""
        child = latents[self.latent]
        if getattr(child, "grid", None) is None:
            raise ValueError(f"{self.name}: {self.latent!r} must be a bj.GaussianField")
        for name in self.parents:
            grid = getattr(latents[name], "grid", None)
            if grid is None and latents[name].shape != ():
                raise ValueError(
                    f"{self.name}: {name!r} must be a field or a scalar; split the vector into "
                    "scalar parameters"
                )
            if grid is not None and not same_grid(grid, child.grid):
                raise ValueError(
                    f"{self.name}: {name!r} and {self.latent!r} must lie on the same grid"
                )

    def shape(self, build: ModelBuild, field: Any) -> tuple[Any, Any]:
        """Return the white coordinates of the scatter, and what the relation predicts."""
        predicted = build.shifts[self.latent] = self._predicted(build, field.shape)
        return build.whites[self.latent], predicted

    def _predicted(self, build: ModelBuild, shape: tuple[int, ...]):
        """Return the tensor of f, adding unknown coefficients to the model."""
        values = [build.values[name] for name in self.parents]
        coefficients = {key: self._coefficient(build, key) for key in self.coefficients}
        self._require_taken(values, coefficients)
        predicted = tensor(self.name, self.function, *values, **coefficients)
        given = predicted.type.shape
        if predicted.ndim == 0:
            return predicted
        pairs = zip(given, shape, strict=False)
        if len(given) != len(shape) or any(n not in (None, m) for n, m in pairs):
            raise ValueError(
                f"{self.name}: the function gives shape {given}, the field has {shape}; work cell "
                "by cell"
            )
        return pt.specify_shape(predicted, shape) if None in given else predicted

    def _require_taken(self, values: Sequence[Any], coefficients: Mapping[str, Any]) -> None:
        """Raise unless the function takes as many values, and the coefficients by name."""
        try:
            taken = signature(self.function)
        except (TypeError, ValueError):
            return  # of what is not written in Python nothing is known
        try:
            taken.bind(*values, **coefficients)
        except TypeError as error:
            raise ValueError(
                f"{self.name}: the function does not take {len(values)} values and the "
                f"coefficients {sorted(self.coefficients)}: {error}"
            ) from None

    def _coefficient(self, build: ModelBuild, key: str):
        name, given = f"{self.latent}_{key}", self.coefficients[key]
        if isinstance(given, Prior) and name in build.values:
            return build.values[name]
        return build.unknown(name, given)

    def sources(self) -> list[str]:
        """Return the unknowns on which the prediction depends: latents, then coefficients."""
        return [*self.parents, *self.unknowns()]

    def slope(self, build: ModelBuild, source: str, tangent: Any = 1.0):
        """Return the tensor of the change of the prediction as a source changes by a tangent.

        The others are held fast, also where they follow from the source themselves.
        """
        held = {build.values[name]: build.values[name].copy() for name in self.sources()}
        predicted = graph_replace(build.shifts[self.latent], held, strict=False)
        value = held[build.values[source]]
        return pushforward(
            predicted, value, tangent * pt.ones_like(value), disconnected_outputs="ignore"
        )

    def changes(self, build: ModelBuild) -> list[Any]:
        """Return the prediction, then two tensors a source, which are equal cell by cell.

        The slope times a tangent that differs from cell to cell, and the change along it.
        """
        tensors = [build.shifts[self.latent]]
        for source in self.sources():
            shape = build.values[source].type.shape
            tangent = np.random.default_rng(1).standard_normal(shape)
            tensors.append(self.slope(build, source) * tangent)
            tensors.append(self.slope(build, source, tangent))
        return tensors

    def check_changes(self, values: Sequence[np.ndarray]) -> None:
        """Raise unless the prediction is finite, and each of its cells depends on one cell."""
        predicted, *changes = values
        if not np.all(np.isfinite(predicted)):
            raise ValueError(
                f"{self.name}: the function is not finite at a prior draw; narrow the priors of "
                f"{' and '.join(self.sources())}, or mend the function"
            )
        pairs = zip(self.sources(), changes[::2], changes[1::2], strict=True)
        for source, together, by_cell in pairs:
            size = max(np.abs(together).max(), np.abs(by_cell).max())
            if not np.abs(together - by_cell).max() <= 1e-8 * size:
                raise ValueError(
                    f"{self.name}: the function mixes the cells of {source!r}; each cell of "
                    f"{self.latent!r} may depend on that cell alone"
                )

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add nothing: the field has been shaped when it was added."""
