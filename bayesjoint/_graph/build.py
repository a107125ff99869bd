"""The model while it is being built: what each part leaves for the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt

from bayesjoint.priors import Prior


@dataclass(frozen=True, eq=False)
class Unknown:
    """One unknown of the model: its user-facing name and its free variable."""

    name: str
    variable: str  # name of the free variable, "depth_white" or, without a white form, "depth"
    kind: str  # "latent" or "hyperparameter"
    white: bool = True
    of_errors: bool = False  # enters the covariance of the errors, not the response
    units: str = ""
    dims: tuple[str, ...] = ()  # of a hyperparameter that is no scalar, where they are named
    prior: Prior | None = None  # of independent numbers


@dataclass(eq=False)
class ModelBuild:
    """What has been added to a ``pm.Model`` so far, by name."""

    model: pm.Model
    values: dict[str, Any] = field(default_factory=dict)  # latents and hyperparameters
    unknowns: list[Unknown] = field(default_factory=list)
    whites: dict[str, Any] = field(default_factory=dict)  # white variables of fields
    shifts: dict[str, Any] = field(default_factory=dict)  # of the mean of fields, by relations
    shaping: dict[str, Any] = field(default_factory=dict)  # field -> coupling that shapes its prior
    outputs: dict[int, Any] = field(default_factory=dict)  # of forward maps, by identity
    responses: dict[str, Any] = field(default_factory=dict)  # shape of the observed data
    images: dict[str, Any] = field(default_factory=dict)  # the same where data are missing too
    noise: dict[str, Any] = field(default_factory=dict)  # terms, shape of the observed data
    factors: dict[str, Any] = field(default_factory=dict)  # (basis, scale) of the discrepancy
    joint_densities: dict[tuple[str, ...], Any] = field(default_factory=dict)  # of modalities
    residuals: dict[str, Any] = field(default_factory=dict)  # of couplings, see add_coupling
    log_priors: dict[str, Any] = field(default_factory=dict)  # one scalar each
    matrices: dict[str, np.ndarray] = field(default_factory=dict)  # data of the model
    observed: dict[str, Any] = field(default_factory=dict)  # shared data of the modalities
    shared: dict[str, Any] = field(default_factory=dict)  # tensors that several parts need
    taken: frozenset[str] = frozenset()  # names that matrices leave to others

    def add_latents(self, latents: Sequence[Any], couplings: Sequence[Any]) -> None:
        """Add latents; those that shape the prior of others, through a coupling, come first."""
        for coupling in couplings:
            for name in coupling.shapes:
                if name in self.shaping:
                    raise ValueError(
                        f"{coupling.name}: the prior of {name!r} is already shaped by "
                        f"{self.shaping[name].name}; keep one of the two"
                    )
                self.shaping[name] = coupling
        by_name = {latent.name: latent for latent in latents}
        for name in in_order(list(by_name), couplings):
            by_name[name].add_to_model(self)

    def add_coords(self, coords: Mapping[str, Any]) -> None:
        """Register coordinates with the model."""
        for name, values in coords.items():
            if name not in self.model.coords:
                self.model.add_coord(name, _plain(np.asarray(values)))

    def unknown(
        self,
        name: str,
        value: Any,
        *,
        dims: tuple[str, ...] | None = None,
        kind: str = "hyperparameter",
        of_errors: bool = False,
        units: str = "",
    ):
        """Return ``value`` when it is a number, else add the unknown with that prior."""
        if not isinstance(value, Prior):
            return pt.as_tensor(np.asarray(value, dtype=float))
        if value.labelled:
            raise ValueError(
                f"{name!r}: {sorted(value.labelled)} of its prior has labels, which are not "
                "matched here; give a bare array in the order of the unknown"
            )
        shape = tuple(len(self.model.coords[d]) for d in dims) if dims else ()
        if value.is_white:
            _require_shape(name, value, shape)
            variable = f"{name}_white"
            white = pm.Normal(variable, shape=shape, dims=dims)
            tensor = pt.specify_shape(value.from_white(white), shape)
            tensor = pm.Deterministic(name, tensor, dims=dims)
            self.log_priors[name] = value.log_density(tensor)
        else:
            variable = name
            settings = {"dims": dims} if dims else {}
            tensor = value.distribution(name, **value.parameters, **settings)
            self.log_priors[name] = value.log_density(tensor)
        self.values[name] = tensor
        self.unknowns.append(
            Unknown(name, variable, kind, value.is_white, of_errors, units, dims or (), value)
        )
        return tensor

    def correlation(self, name: str, value: Prior, between: Sequence[str], **settings: Any):
        """Return the unknown correlation matrix between named parts, shape (part, part).

        With a prior over numbers one is common to all pairs; with LKJ each pair has its own, along
        the dim ``<name>_pair``.
        """
        count = len(between)
        if value.distribution is not pm.LKJCorr:
            common = self.unknown(name, value, **settings)
            return pt.eye(count) + common * (1.0 - np.eye(count))
        # PyMC's variable is the Cholesky factor of the matrix.
        factor = value.distribution(f"{name}_factor", **value.parameters)
        matrix, dim = factor @ factor.T, f"{name}_pair"
        first, second = np.triu_indices(count, 1)
        labels = np.array(between, dtype=str)
        pairs = [f"{a}, {b}" for a, b in zip(labels[first], labels[second], strict=True)]
        self.add_coords({dim: pairs})
        tensor = pt.specify_shape(matrix[first, second], (len(pairs),))
        self.values[name] = pm.Deterministic(name, tensor, dims=dim)
        unknown = Unknown(
            name, f"{name}_factor", "hyperparameter", white=False, dims=(dim,), **settings
        )
        self.unknowns.append(unknown)
        self.log_priors[name] = value.log_density(factor)
        return matrix

    def add_coupling(self, name: str, log_density: Any, residuals: Any) -> None:
        """Add the potential of a coupling.

        Parameters
        ----------
        name : str
        log_density : tensor
            A scalar.
        residuals : tensor
            Their Jacobian J alone is used: ``J^T J`` stands for the Hessian of minus the log
            density, and is that of ``|r|^2 / 2`` where the density is one of least squares.
        """
        self.residuals[name] = residuals.ravel()
        self.log_priors[name] = log_density
        pm.Potential(name, log_density)

    def observe(self, name: str, data: np.ndarray):
        """Return the data of a modality as a shared variable: other data need no other graphs."""
        if name not in self.observed:
            self.observed[name] = pytensor.shared(data, name=f"{name}_data", shape=data.shape)
        return self.observed[name]

    def matrix(self, name: str, array: np.ndarray):
        """Return a constant matrix; a large one is data of the model, so that graphs stay cached.

        Another matrix of the same name gets a number, and so does one whose name is taken.
        """
        array = np.ascontiguousarray(array, dtype=float)
        if array.nbytes <= 50_000:
            return pt.constant(array)
        unused, count = name, 1
        while unused in self.model.named_vars or unused in self.taken:
            if unused in self.matrices and np.array_equal(self.matrices[unused], array):
                return self.model[unused]
            count += 1
            unused = f"{name}_{count}"
        self.matrices[unused] = array
        return pm.Data(unused, array, model=self.model)


def _plain(labels: np.ndarray) -> np.ndarray:
    """Return labels as PyMC takes them: the tuples of a stacked dim are numbered."""
    stacked = labels.dtype == object and any(isinstance(label, tuple) for label in labels)
    return np.arange(labels.size) if stacked else labels


def in_order(names: Sequence[str], couplings: Sequence[Any]) -> list[str]:
    """Return names of latents such that those that shape the prior of others come before them."""
    before: dict[str, set[str]] = {name: set() for name in names}
    for coupling in couplings:
        for name in coupling.shapes:
            before[name] |= set(coupling.before(name))
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise ValueError(
            f"the priors of {' and '.join(sorted(set(error.args[1])))} shape each other in a "
            "circle; leave one of the couplings out"
        ) from None


def _require_shape(name: str, prior: Prior, shape: tuple[int, ...]) -> None:
    given = prior.dist().type.shape
    if None not in given and not _broadcasts(given, shape):
        raise ValueError(
            f"{name!r}: its prior has shape {given}, the unknown {shape}; a vector needs coords= "
            "with one label for each element"
        )


def _broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False
