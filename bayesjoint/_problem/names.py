"""Names in a problem: those that PyMC and ArviZ need, and those that the model makes of others."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pymc as pm
from pymc.util import is_transformed_name

from bayesjoint import _validate
from bayesjoint._names import free
from bayesjoint._replace import Replaceable
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem

NEEDED = ("chain", "draw", "__sample__")  # PyMC refuses them as dims, and ArviZ has them everywhere
NEEDED_OF = {"latents": "grid_coords", "modalities": "add_response"}
SCALES = ("sd", "scale")  # settings of a noise that may be unknown


def check(problem: "JointProblem") -> None:
    """Raise unless all names can stand beside each other in the model and in its posterior."""
    _check_parts(problem)
    for owner, kind, name in _given(problem):
        _check_name(owner, kind, name)
    taken: dict[str, str] = {}
    for name, what in _variables(problem):
        if name in taken:
            raise ValueError(f"{name!r} is both {taken[name]} and {what}; rename one of them")
        taken[name] = what
    for name in sorted(_dims(problem) & set(taken)):
        raise ValueError(f"{name!r} is both a dimension and {taken[name]}; rename one of them")


def of_variables(problem: "JointProblem") -> set[str]:
    """Return the names of all variables of the model, and of dims that it adds."""
    return {name for name, _ in _variables(problem)}


def of_coordinates(problem: "JointProblem") -> dict[str, dict[str, str]]:
    """Return new names of coordinates of the data that others take, by modality.

    That is of a coordinate of several modalities, or one with the name of a dim or a variable: it
    gets the name of its modality before it, a level of a stacked dim that of the dim.
    """
    stacked = {pair for m in problem.modalities for pair in m.levels.items()}
    own = {m.name: _beside_dims(m) for m in problem.modalities}
    given = [name for names in own.values() for name in names] + [level for level, _ in stacked]
    taken = of_variables(problem) | _dims(problem)
    changed: dict[str, dict[str, str]] = {modality: {} for modality in own}

    def renamed(owner: str, name: str) -> str:
        if name not in taken and given.count(name) == 1:
            return name
        new = free(f"{owner}_{name}", taken | set(given))
        taken.add(new)
        return new

    levels = {pair: renamed(pair[1], pair[0]) for pair in sorted(stacked)}
    for modality in problem.modalities:
        pairs = {name: renamed(modality.name, name) for name in own[modality.name]}
        pairs |= {pair[0]: levels[pair] for pair in modality.levels.items()}
        changed[modality.name] = {name: new for name, new in pairs.items() if name != new}
    return changed


def _check_parts(problem: "JointProblem") -> None:
    for kind, parts in (("latents", problem.latents), ("modalities", problem.modalities)):
        for part in parts:
            if not isinstance(part, Replaceable) or not hasattr(part, NEEDED_OF[kind]):
                raise ValueError(f"JointProblem: {kind} must be made by bj classes, {part!r} given")
    for kind, parts, method in (
        ("couplings", problem.couplings, "sources_of"),
        ("discrepancy", problem.discrepancies_given, "touches"),
    ):
        for part in parts:
            if not isinstance(part, Replaceable) or not hasattr(part, method):
                raise ValueError(f"JointProblem: {kind} must be made by bj classes, {part!r} given")
    parts = (*problem.latents, *problem.modalities)
    _validate.require_unique("JointProblem", [part.name for part in parts])
    _validate.require_unique("JointProblem: couplings", [c.name for c in problem.couplings])
    discrepancies = [d.name for d in problem.discrepancies_given]
    _validate.require_unique("JointProblem: discrepancies", discrepancies)
    if not problem.latents:
        raise ValueError(
            "JointProblem: there are no latents; give at least one GaussianField or Parameter"
        )


def _given(problem: "JointProblem") -> Iterator[tuple[str, str, Any]]:
    """Yield the owner, the kind and the name of everything that the user named."""
    for latent in problem.latents:
        owner = f"latent {latent.name!r}"
        yield owner, "name", latent.name
        for dim in latent.dims:
            yield owner, "dimension", dim
    for modality in problem.modalities:
        owner = f"modality {modality.name!r}"
        yield owner, "name", modality.name
        for dim in modality.data.dims:
            yield owner, "dimension", dim
        for name in modality.data.coords:
            yield owner, "coordinate", name


def _check_name(owner: str, kind: str, name: Any) -> None:
    cure = {
        "name": "give it another name",
        "dimension": f"rename it, as in data.rename({{{name!r}: 'station'}})",
        "coordinate": f"rename it, as in data.rename({{{name!r}: 'place'}}), or drop it",
    }[kind]
    if kind == "dimension" and owner.startswith("latent"):
        cure = "rename it in coords= or in the grid"
    what = f"{owner}: the {kind} {name!r}"
    if not isinstance(name, str):
        raise ValueError(f"{what} is a {type(name).__name__}, and names must be words; {cure}")
    if name in NEEDED:
        raise ValueError(f"{what} is needed by PyMC and ArviZ for the draws; {cure}")
    if is_transformed_name(name) and kind == "name":
        raise ValueError(f"{what} ends as PyMC's transformed variables do; {cure}")
    if kind == "dimension" and not name.isidentifier():
        raise ValueError(
            f"{what} must be a word of letters, digits and underscores, as in sel(station=3); "
            f"{cure}"
        )
    if "/" in name:
        raise ValueError(f"{what} has a slash, which separates groups of a tree; {cure}")


def _dims(problem: "JointProblem") -> set[str]:
    """Return the dims that the user named."""
    dims = {dim for latent in problem.latents for dim in latent.dims}
    return dims | {str(dim) for modality in problem.modalities for dim in modality.data.dims}


def _beside_dims(modality: Any) -> list[str]:
    apart = {*modality.data.dims, *modality.levels}
    return [str(name) for name in modality.data.coords if name not in apart]


# ---- what the model adds -------------------------------------------------------------------------


def _variables(problem: "JointProblem") -> Iterator[tuple[str, str]]:
    """Yield the name of each variable of the model, and of each dim that it adds, with its words.

    Without those of matrices that are data of the model, which avoid all of these.
    """
    for latent in problem.latents:
        yield from _of_latent(latent)
    touched = {name for d in problem.discrepancies_given for name in d.touches(problem.modality)}
    for modality in problem.modalities:
        yield from _of_modality(modality, modality.name in touched)
    for discrepancy in problem.discrepancies_given:
        yield from _of_discrepancy(discrepancy)
    for coupling in problem.couplings:
        yield from _of_coupling(coupling)


def _of_latent(latent: Any) -> Iterator[tuple[str, str]]:
    name, owner = latent.name, f"latent {latent.name!r}"
    yield name, "the name of a latent"
    yield f"{name}_white", f"the white variable of {owner}"
    for key, value in latent.hyperparameters.items():
        yield from _of_unknown(f"{name}_{key}", value, owner)
    if hasattr(latent, "grid"):
        for dim in latent.dims:
            yield f"{name}_mode_{dim}", f"a dimension of the white variable of {owner}"


def _of_modality(modality: Any, touched: bool) -> Iterator[tuple[str, str]]:
    name, owner = modality.name, f"modality {modality.name!r}"
    yield name, "the name of a modality"
    yield f"{name}_response", f"the predicted data of {owner}"
    if touched:
        yield f"{name}_discrepancy", f"the discrepancy of {owner}"
    if modality.places is not None and modality.places.size < modality.data.size:
        yield f"{name}_observed", f"the dimension of the observed data of {owner}"
    if modality.power != 1.0:
        yield f"{name}_tempering", f"the tempering of {owner}"
    for key in SCALES:
        value = getattr(modality.noise, key, None)
        yield from _of_unknown(f"{name}_{key}", value, f"the noise of {owner}")


def _of_discrepancy(given: Any) -> Iterator[tuple[str, str]]:
    name, owner = given.name, f"the discrepancy {given.name!r}"
    yield name, owner
    yield f"{name}_white", f"the white variable of {owner}"
    for key in ("sd", "correlation", "length_scale"):
        yield from _of_unknown(f"{name}_{key}", getattr(given, key), owner)


def _of_coupling(coupling: Any) -> Iterator[tuple[str, str]]:
    owner = f"the coupling {coupling.name!r}"
    if not coupling.shapes:
        yield coupling.name, owner
        yield from _of_unknown(f"{coupling.name}_weight", coupling.weight, owner)
        if coupling.normaliser is not None:
            yield f"{coupling.name}_normaliser", f"the normaliser of {owner}"
            yield f"{coupling.name}_normaliser_white", f"the normaliser of {owner}"
        return
    for dim in getattr(coupling, "coords", {}):
        yield dim, f"the dimension of the units of {owner}"
    for name, value in coupling.priors().items():
        yield from _of_unknown(name, value, owner)


def _of_unknown(name: str, value: Any, owner: str) -> Iterator[tuple[str, str]]:
    """Yield what an unknown setting adds; nothing where it is known."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _of_unknown(f"{name}_{key}", one, owner)
    if not isinstance(value, Prior):
        return
    yield name, f"an unknown of {owner}"
    if value.distribution is pm.LKJCorr:
        yield f"{name}_factor", f"the factor of an unknown of {owner}"
        yield f"{name}_pair", f"the dimension of an unknown of {owner}"
    elif value.is_white:
        yield f"{name}_white", f"the white variable of an unknown of {owner}"
