"""The joint problem: latents, modalities, couplings and discrepancy, and its model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr

from bayesjoint import _arguments, _validate, arrays
from bayesjoint._errors import marginal as _marginal
from bayesjoint._errors.factors import ModalFactor
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import in_turn
from bayesjoint._problem import checks as _problem_checks
from bayesjoint._problem import fitting as _fitting
from bayesjoint._problem import names as _problem_names
from bayesjoint._problem import observed as _observed
from bayesjoint._problem import split as _split
from bayesjoint._problem.pool import Pool
from bayesjoint._problem.settled import at_one_point, settled
from bayesjoint._replace import Replaceable
from bayesjoint.discrepancy import JointDiscrepancy
from bayesjoint.modalities import Modality


@dataclass(frozen=True, eq=False)
class JointProblem(Replaceable):
    """Several modalities that observe the same latents; frozen, and a plain value.

    Parameters
    ----------
    latents : sequence of GaussianField or Parameter
        What is unknown.
    modalities : sequence of Modality
        What was measured.
    couplings : sequence of couplings, optional
        How latents inform each other a priori: potentials as `CrossGradient`,
        `JointTotalVariation` and `JointSparsity`, or joint priors as `CorrelatedFields`,
        `PropertyMixture` and `PropertyRelation`.
    discrepancy : JointDiscrepancy or a sequence of them, optional
        Errors of the physics.

    Raises
    ------
    ValueError
        When names clash, a map names an unknown latent, units or coordinates disagree, a modality
        reaches no latent, a response does not fit its data, or a derivative is wrong (checked on
        three prior draws).

    Warns
    -----
    UserWarning
        When no modality reaches a latent: its posterior is its prior.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> slope = bj.Parameter("slope", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> line = bj.Modality(
    ...     "line", xr.DataArray([1.0, 2.1], dims="x"),
    ...     bj.linear_map(np.array([[1.0], [2.0]]), "slope"), bj.GaussianNoise(sd=0.1),
    ... )
    >>> problem = bj.JointProblem(latents=[slope], modalities=[line])
    >>> [v.name for v in bj.build_model(problem).observed_RVs]
    ['line']
    """

    _: KW_ONLY
    latents: Sequence[Any]
    modalities: Sequence[Modality]
    couplings: Sequence[Any] = ()
    discrepancy: Any = None
    pool: Pool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for setting in ("latents", "modalities", "couplings"):
            given = _validate.parts("JointProblem", setting, getattr(self, setting))
            object.__setattr__(self, setting, given)
        _problem_checks.check_references(self)
        object.__setattr__(self, "modalities", _fitting.fitted_modalities(self))
        _problem_checks.check_parts(self)
        object.__setattr__(self, "pool", Pool())

    @property
    def latent(self) -> dict[str, Any]:
        """Latents by name."""
        return {latent.name: latent for latent in self.latents}

    @property
    def modality(self) -> dict[str, Modality]:
        """Modalities by name."""
        return {modality.name: modality for modality in self.modalities}

    @property
    def observed(self) -> "JointProblem":
        """The problem of the data that were observed; itself where none is missing."""
        return self if all(m.is_complete for m in self.modalities) else self._of_observed

    @cached_property
    def _of_observed(self) -> "JointProblem":
        return _observed.observed_problem(self)

    @property
    def discrepancies(self) -> tuple[JointDiscrepancy, ...]:
        """The discrepancies, none or several, in the units of the data they act on."""
        return self._fitted_discrepancies

    @cached_property
    def _fitted_discrepancies(self) -> tuple[JointDiscrepancy, ...]:
        return tuple(d.fitted(self.modality) for d in self.discrepancies_given)

    @property
    def discrepancies_given(self) -> tuple[JointDiscrepancy, ...]:
        """The discrepancies as they were given."""
        if self.discrepancy is None:
            return ()
        return _validate.parts("JointProblem", "discrepancy", self.discrepancy)

    def derived(self, how: Any, problem: "JointProblem") -> "JointProblem":
        """Return a problem that follows from this one whatever the data, so that graphs do too."""
        object.__setattr__(problem, "pool", self.pool.part(how))
        return problem

    def with_data(self, data: xr.Dataset | Mapping[str, Any]) -> "JointProblem":
        """Return the problem with the data of the modalities named in ``data`` replaced.

        What was compiled for the one serves the other, where the same data are missing: of many
        data sets the first alone compiles.

        Parameters
        ----------
        data : Dataset, or mapping of name to DataArray
            Under the names of modalities; with the labels of their data in any order of labels
            and dims, in units that can be converted to theirs.  NaN is a missing datum where the
            modality says ``missing="drop"``.

        Raises
        ------
        ValueError
            When there is no such modality, or the data have other labels, another shape or other
            units than its own.
        """
        if not isinstance(data, Mapping):
            raise ValueError(
                f"with_data: the data are a {type(data).__name__}; give a Dataset, or a mapping of "
                'the names of modalities to DataArrays, as {"gravity": gravity}'
            )
        given = dict(data.data_vars) if isinstance(data, xr.Dataset) else dict(data)
        unknown = set(given) - set(self.modality)
        if unknown:
            raise ValueError(
                f"there is no modality {sorted(map(str, unknown))}; there are "
                f"{sorted(self.modality)}"
            )
        observed = self.replace(
            modalities=[
                m.replace(data=arrays.observations(f"modality {m.name!r}", given[m.name], m.data))
                if m.name in given
                else m
                for m in self.modalities
            ]
        )
        places = {m.name: m.places for m in observed.modalities}
        if all(np.array_equal(m.places, places[m.name]) for m in self.modalities):
            object.__setattr__(observed, "pool", self.pool)
            return observed
        return self.derived(tuple((n, where.tobytes()) for n, where in places.items()), observed)

    def hold(self, values: Mapping[str, Any] | xr.DataTree) -> "JointProblem":
        """Return the problem with hyperparameters held at values, no longer unknown.

        Parameters
        ----------
        values : mapping or DataTree
            Values by name; or a tree from `linearize` at one point, whose settings of the errors,
            such as scales of noise and sds, correlations and length scales of a discrepancy, are
            held there.

        Raises
        ------
        ValueError
            When the problem has no such hyperparameter, it is that of a coupling, or the tree is
            not at one point.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc as pm
        >>> import xarray as xr
        >>> import bayesjoint as bj
        >>> slope = bj.Parameter("slope", bj.Prior(pm.Normal, mu=0, sigma=1))
        >>> noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1))
        >>> data, gain = xr.DataArray([1.0, 2.1], dims="x"), np.array([[1.0], [2.0]])
        >>> line = bj.Modality("line", data, bj.linear_map(gain, "slope"), noise)
        >>> problem = bj.JointProblem(latents=[slope], modalities=[line])
        >>> problem.hold({"line_sd": 0.1}).modality["line"].noise.sd
        0.1
        """
        made = build(self)
        known = {u.name: u for u in made.unknowns if u.kind == "hyperparameter"}
        if isinstance(values, xr.DataTree):
            of_errors = [name for name, unknown in known.items() if unknown.of_errors]
            values = at_one_point(values, of_errors, "hold: values")
        if not isinstance(values, Mapping):
            raise ValueError(
                f"hold: the values are a {type(values).__name__}; give them by name, as in "
                '{"gravity_sd": 0.1}'
            )
        if unknown := sorted(set(map(str, values)) - set(known)):
            raise ValueError(
                f"hold: there is no hyperparameter {unknown}; there are {sorted(known)}"
            )
        values = {name: _held(made, known[name], value) for name, value in values.items()}
        held = self.replace(
            latents=[settled(latent, latent.name, values) for latent in self.latents],
            modalities=[m.replace(noise=settled(m.noise, m.name, values)) for m in self.modalities],
            discrepancy=tuple(settled(d, d.name, values) for d in self.discrepancies_given) or None,
        )
        if left := {u.name for u in build(held).unknowns} & set(values):
            raise ValueError(
                f"hold: {sorted(left)} are settings of a coupling; give the coupling numbers"
            )
        return held

    def without(self, *names: str) -> "JointProblem":
        """Return the problem without some modalities; latents only they reach keep their prior."""
        self._require_modalities(names)
        return self._with_modalities(
            [m for m in self.modalities if m.name not in names], self.latents
        )

    def without_data(self) -> "JointProblem":
        """Return the problem without any data: its posterior is the coupled prior."""
        return self._with_modalities([], self.latents)

    def separate(self) -> dict[str, "JointProblem"]:
        """Return one problem a modality, with the latents it reaches and the couplings of these.

        None for modalities that reach no latent.
        """
        return {
            m.name: self._with_modalities([m], self._reached(m))
            for m in self.modalities
            if m.forward.latents
        }

    def split(self) -> "JointProblem":
        """Return the problem in which every modality has latents of its own, errors unchanged.

        A latent ``depth`` that the modalities gnss and insar both reach becomes ``depth__gnss`` and
        ``depth__insar``; one that a single modality reaches keeps its name, one that none reaches
        is left out.  A coupling is repeated for each modality that reaches its latents, as in
        `separate`.  Noise and discrepancies stay as they are, with their unknown settings, so that
        correlated errors stay correlated: the posterior is what `bj.tension` compares with.
        """
        return self.derived("split", _split.split(self))

    def _reached(self, modality: Modality) -> list[Any]:
        """Return the latents that a modality reaches, and those that they follow from."""
        names, new = set(), set(modality.forward.latents)
        while new:
            names |= new
            new = {p for c in self.couplings for p in c.sources_of(new)} - names
        return [latent for latent in self.latents if latent.name in names]

    def _with_modalities(
        self, modalities: list[Modality], latents: Sequence[Any]
    ) -> "JointProblem":
        kept = {modality.name: modality for modality in modalities}
        names = {latent.name for latent in latents}
        restricted = [d.restricted(kept) for d in self.discrepancies_given]
        restricted_couplings = [c.restricted(names) for c in self.couplings]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            part = self.replace(
                latents=latents,
                modalities=modalities,
                couplings=[c for c in restricted_couplings if c is not None],
                discrepancy=tuple(d for d in restricted if d is not None) or None,
            )
        return self.derived((tuple(kept), tuple(sorted(names))), part)

    def _require_modalities(self, names: Sequence[str]) -> None:
        for name in names:
            _arguments.check("without", name=name)
        unknown = sorted(set(names) - set(self.modality))
        if unknown:
            raise ValueError(f"there is no modality {unknown}; there are {sorted(self.modality)}")

    @property
    def coords(self) -> dict[str, xr.DataArray]:
        """Coordinates of all dims of latents and data, with their units where they are stated."""
        return {dim: labels.copy(deep=False) for dim, labels in self._coords.items()}

    @cached_property
    def _coords(self) -> dict[str, xr.DataArray]:
        coords: dict[str, xr.DataArray] = {}
        for latent in self.latents:
            grid = getattr(latent, "grid", None)
            for dim, values in latent.grid_coords.items():
                labelled = xr.DataArray(np.asarray(values), dims=dim)
                coords[dim] = labelled if grid is None else grid.coordinates()[dim]
        for coupling in self.couplings:
            for dim, labels in getattr(coupling, "coords", {}).items():
                coords[dim] = xr.DataArray(labels, dims=dim)
        for modality in self.modalities:
            for dim, values in modality.coords.items():
                if modality.is_stacked(dim):
                    coords[dim] = self.labelled_data[modality.name][dim]
                    continue
                attrs = modality.data[dim].attrs if dim in modality.data.coords else {}
                known = coords.get(dim)
                attrs = {**(known.attrs if known is not None else {}), **attrs}
                coords[dim] = xr.DataArray(np.asarray(values), dims=dim, attrs=attrs)
        return coords

    @property
    def labelled_data(self) -> dict[str, xr.DataArray]:
        """The data of each modality; a coordinate is prefixed whose name another one takes.

        That is a coordinate of several modalities, or one with the name of a dim or a variable.  A
        level of a stacked dim is prefixed by that dim.
        """
        renamed = _problem_names.of_coordinates(self)
        return {m.name: m.data.rename(renamed[m.name]) for m in self.modalities}


def _held(made: ModelBuild, unknown: Any, value: Any) -> Any:
    """Return a value of a hyperparameter, in its shape, order and units."""
    labels = [made.model.coords.get(dim) for dim in unknown.dims]
    sizes = tuple(1 if known is None else len(known) for known in labels)
    indexes = tuple(None if known is None else pd.Index(known) for known in labels)
    axes = arrays.Axes(f"{unknown.name!r}", unknown.dims, indexes, sizes, (None,) * len(sizes))
    return arrays.aligned(
        "hold", unknown.name, value, axes, units=unknown.units or None, broadcast=False, exact=True
    )


def build_model(problem: JointProblem) -> pm.Model:
    """Return the plain PyMC model of a problem; ``pm.sample`` works on it unchanged.

    Parameters
    ----------
    problem : JointProblem

    Returns
    -------
    pm.Model
        With, for a field ``density`` and a modality ``gravity``: ``density_white`` (free),
        ``density``, ``gravity_response``, ``gravity_discrepancy`` where it is sampled, and
        ``gravity`` (observed); where data are missing, the last two along the dim
        ``gravity_observed``.

    Examples
    --------
    >>> import pymc as pm
    >>> import bayesjoint as bj
    >>> height = bj.Parameter("height", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> model = bj.build_model(bj.JointProblem(latents=[height], modalities=[]).without_data())
    >>> [v.name for v in model.free_RVs]
    ['height_white']
    """
    return build(problem).model


def require_problem(problem: Any) -> None:
    """Raise unless it is a problem, as where several are given or a posterior is."""
    if not isinstance(problem, JointProblem):
        raise TypeError(f"a bj.JointProblem is needed, {type(problem).__name__} given")


@in_turn()
def build(problem: JointProblem) -> ModelBuild:
    """Return the model with what the rest of the package needs to know of it."""
    require_problem(problem)
    made = ModelBuild(pm.Model(), taken=frozenset(_problem_names.of_variables(problem)))
    problem = problem.observed
    with made.model:
        made.add_latents(problem.latents, problem.couplings)
        for modality in problem.modalities:
            modality.add_response(made)
        _add_observed(made, problem)
        for coupling in problem.couplings:
            coupling.add_to_model(made, problem.latent)
    return made


def _add_observed(made: ModelBuild, problem: JointProblem) -> None:
    sampled: dict[str, Any] = {}
    integrated: list[Any] = []
    joint: list[str] = []
    touched = [d.touches(problem.modality) for d in problem.discrepancies]
    for i, discrepancy in enumerate(problem.discrepancies):
        others = {name for j, names in enumerate(touched) if j != i for name in names}
        factor = discrepancy.factor(made, problem.modality, others.isdisjoint(touched[i]))
        made.factors[factor.name] = factor
        if isinstance(factor, ModalFactor) or factor.marginal:
            joint += factor.modalities
            integrated.append(factor)
            continue
        for name, tensor in discrepancy.sample(made, factor).items():
            sampled[name] = sampled.get(name, 0.0) + tensor.reshape(
                problem.modality[name].data.shape
            )
    for name, tensor in sampled.items():
        pm.Deterministic(f"{name}_discrepancy", tensor, dims=problem.modality[name].data.dims)
    for modality in problem.modalities:
        if modality.name not in joint:
            modality.add_observed(made, sampled.get(modality.name))
    means = {n: made.responses[n] + sampled.get(n, 0.0) for n in problem.modality if n in joint}
    _marginal.add_observed(made, problem.modality, integrated, means)
