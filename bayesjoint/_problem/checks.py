"""What must hold between the parts of a problem; each check names object, fact and cure."""

import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint import _validate
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import UNOPTIMISED, compiled_function, in_turn, random_draws
from bayesjoint.couplings._group import connected, digest, tabulated, upstream
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem

CHECK_DRAWS = 3
RESERVED = {
    "chain", "draw", "mode", "unknown", "cell", "datum", "modality", "latent", "point",
    "parameter", "direction", "into", "source", "scalar", "discrepancy",
}  # fmt: skip

_checked_maps: "weakref.WeakKeyDictionary[Any, tuple]" = weakref.WeakKeyDictionary()


def check_references(problem: "JointProblem") -> None:
    """Raise unless names are unique and every map reads latents that there are."""
    _check_names(problem)
    _check_reach(problem)


def check_parts(problem: "JointProblem") -> None:
    """Raise unless the parts of the problem, fitted to each other, are consistent."""
    _check_units(problem)
    for coupling in problem.couplings:
        _check_coupling(problem, coupling)
    for discrepancy in problem.discrepancies:
        discrepancy.check(problem.modality)
    _check_relations(problem)
    _check_responses(problem)


def _check_names(problem: "JointProblem") -> None:
    for kind, parts in (("latents", problem.latents), ("modalities", problem.modalities)):
        for part in parts:
            if not hasattr(part, "name"):
                raise ValueError(f"JointProblem: {kind} must be made by bj classes, {part!r} given")
    for kind, parts, method in (
        ("couplings", problem.couplings, "sources_of"),
        ("discrepancy", problem.discrepancies_given, "touches"),
    ):
        for part in parts:
            if not hasattr(part, method):
                raise ValueError(f"JointProblem: {kind} must be made by bj classes, {part!r} given")
    names = [part.name for part in (*problem.latents, *problem.modalities)]
    _validate.require_unique("JointProblem", names)
    _validate.require_unique("JointProblem: couplings", [c.name for c in problem.couplings])
    discrepancies = [d.name for d in problem.discrepancies_given]
    _validate.require_unique("JointProblem: discrepancies", discrepancies)
    dims = {dim for part in problem.latents for dim in part.dims}
    dims |= {dim for modality in problem.modalities for dim in modality.data.dims}
    clash = sorted(dims & set(names))
    if clash:
        raise ValueError(
            f"{clash[0]!r} is both a dimension and the name of a latent or modality; rename one "
            "of them"
        )
    taken = sorted((dims | set(names)) & RESERVED)
    if taken:
        raise ValueError(
            f"the name {taken[0]!r} is used by the reports; rename that dimension, latent or "
            "modality"
        )
    if not problem.latents:
        raise ValueError(
            "JointProblem: there are no latents; give at least one GaussianField or Parameter"
        )


def _check_reach(problem: "JointProblem") -> None:
    known = set(problem.latent)
    reached: set[str] = set()
    erring = {n for d in problem.discrepancies_given for n in d.touches(problem.modality)}
    for modality in problem.modalities:
        if not modality.forward.latents and modality.name not in erring:
            raise ValueError(
                f"modality {modality.name!r}: its map {modality.forward.name!r} reads no latent, "
                "and no discrepancy acts on it; leave it out, or give it a loading"
            )
        for name in modality.forward.latents:
            if name not in known:
                raise ValueError(
                    f"modality {modality.name!r}: its map {modality.forward.name!r} reads the "
                    f"latent {name!r}, which is not in the problem; there are {sorted(known)}"
                )
        reached |= set(modality.forward.latents)
    for coupling in problem.couplings:
        if coupling.shapes and reached.intersection(coupling.latents):
            reached |= set(coupling.latents)
    unreached = sorted(known - reached)
    if unreached and problem.modalities:
        warnings.warn(
            f"no modality reaches {unreached}: what is reported of them is the prior only, with "
            "its couplings",
            UserWarning,
            stacklevel=5,
        )


def _check_units(problem: "JointProblem") -> None:
    for modality in problem.modalities:
        forward = modality.forward
        for name in forward.input_units:
            if name not in forward.latents:
                raise ValueError(
                    f"map {forward.name!r}: input_units names {name!r}, which it does not read"
                )


def _check_coupling(problem: "JointProblem", coupling: Any) -> None:
    missing = [name for name in coupling.latents if name not in problem.latent]
    if missing:
        raise ValueError(
            f"{coupling.name}: there is no latent {missing[0]!r}; there are "
            f"{sorted(problem.latent)}"
        )
    coupling.check(problem.latent)
    if not coupling.shapes:
        _require_known_shapes(problem, coupling)
        _check_normaliser(problem, coupling)


def _check_normaliser(problem: "JointProblem", coupling: Any) -> None:
    """Raise unless the normaliser of a potential covers all that it depends on and is unknown."""
    normaliser, over = coupling.normaliser, tabulated(coupling)
    missing = [name for name in over if name not in problem.latent]
    if missing:
        raise ValueError(
            f"{coupling.name}: the normaliser is over the length scale of {missing[0]!r}, which is "
            f"no latent; there are {sorted(problem.latent)}"
        )
    unknown = [n for n in over if isinstance(problem.latent[n].length_scale, Prior)]
    if not unknown and not isinstance(coupling.weight, Prior):
        return
    others = potentials_beside(problem, coupling)
    unknown_too = [c.name for c in others if isinstance(c.weight, Prior)]
    if unknown_too or (others and over):
        of = "length scale" if over else "weight"
        raise ValueError(
            f"{coupling.name}: its fields meet those of {others[0].name}, and log Z of both "
            f"together is not tabulated; give numbers for the {of} of one, or leave one of the "
            "couplings out"
        )
    made_for = digest(coupling, problem.latent, problem.couplings, over)
    normaliser.check(coupling, problem.latent, made_for)


def potentials_beside(problem: "JointProblem", coupling: Any) -> list[Any]:
    """Return the other potentials whose fields are tied to those of one."""
    return [c for c in connected(coupling, problem.couplings) if not c.shapes]


def _require_known_shapes(problem: "JointProblem", coupling: Any) -> None:
    """Raise when the normaliser of a potential depends on an unknown of another coupling."""
    tied, over = upstream(coupling, problem.couplings), tabulated(coupling)
    for other in problem.couplings:
        if not set(other.shapes) & tied:
            continue
        # What follows from a relation is not divided by the sd of what it follows from.
        keys = ("sd", "mean", "length_scale") if hasattr(other, "function") else ("length_scale",)
        unknown = other.unknowns() + [
            f"{name}_{key}"
            for name in other.latents
            for key in keys
            if name in tied and (key != "length_scale" or name not in over)
            if isinstance(problem.latent[name].hyperparameters.get(key), Prior)
        ]
        if unknown:
            raise ValueError(
                f"{coupling.name}: {' and '.join(unknown)} of {other.name} is unknown, and the "
                "normaliser of the coupled prior depends on it; give a number, or leave one of "
                "the couplings out"
            )


@in_turn()
def _check_relations(problem: "JointProblem") -> None:
    """Raise unless the relations between fields are finite and work cell by cell."""
    if not any(hasattr(coupling, "function") for coupling in problem.couplings):
        return
    build = _latents_only(problem)
    checks = {
        name: coupling.changes(build)
        for name, coupling in build.shaping.items()
        if name in build.shifts
    }
    free = [build.model[v.name] for v in build.model.free_RVs]
    outputs = [tensor for changes in checks.values() for tensor in changes]
    evaluate = compiled_function(free, outputs, UNOPTIMISED)
    rng, whites = np.random.default_rng(0), {u.variable for u in build.unknowns if u.white}
    for _ in range(CHECK_DRAWS):
        values = iter(evaluate(*(_draw(v, v.name in whites, rng) for v in free)))
        for name, changes in checks.items():
            build.shaping[name].check_changes([next(values) for _ in changes])


def _check_responses(problem: "JointProblem") -> None:
    """Check maps and responses at prior draws, each map once as long as it lives."""
    draws = prior_values(problem, CHECK_DRAWS)
    for modality in problem.modalities:
        forward = modality.forward
        values = [forward.inputs(draw) for draw in draws]
        signature = tuple(np.shape(v) for v in values[0])
        physics = forward.origin or forward
        if _checked_maps.get(physics) != signature:
            _check_map(forward, values)
            _checked_maps[physics] = signature
    if problem.modalities:
        _check_shapes(problem, draws)


def _check_map(forward: Any, draws: list[list[np.ndarray]]) -> None:
    try:
        forward.check(draws)
    except Exception as error:
        error.add_note(f"raised while the map {forward.name!r} was checked at prior draws")
        raise


def prior_values(problem: "JointProblem", count: int) -> list[dict[str, np.ndarray]]:
    """Return draws of all latents from the prior without potentials, for checks (seed 0)."""
    build = _latents_only(problem)
    free = [build.model[v.name] for v in build.model.free_RVs]
    outputs = [build.values[name] for name in problem.latent]
    evaluate = compiled_function(free, outputs, UNOPTIMISED)
    rng = np.random.default_rng(0)
    whites = {u.variable for u in build.unknowns if u.white}
    draws = []
    for _ in range(count):
        inputs = [_draw(v, v.name in whites, rng) for v in free]
        draws.append(dict(zip(problem.latent, evaluate(*inputs), strict=True)))
    return draws


def _draw(variable: Any, white: bool, rng: np.random.Generator) -> np.ndarray:
    if white:
        return rng.standard_normal(variable.type.shape)
    return random_draws(variable, rng)


@in_turn()
def _latents_only(problem: "JointProblem") -> ModelBuild:
    build = ModelBuild(pm.Model())
    with build.model:
        build.add_latents(problem.latents, problem.couplings)
    return build


def _check_shapes(problem: "JointProblem", draws: list[dict[str, np.ndarray]]) -> None:
    """Evaluate every predicted data set; its size must be that of the data."""
    scratch = ModelBuild(pm.Model())
    inputs = {name: pt.tensor(name, shape=np.shape(value)) for name, value in draws[0].items()}
    scratch.values.update(inputs)
    for modality in problem.modalities:
        with scratch.model:
            predict = _predictor(modality, scratch, inputs)
            # Unknown scales must not clash with latents.
            modality.noise.terms(scratch, modality.name, modality.data)
        # Counts need a positive expectation, so one draw is not enough.
        for draw in draws[:1] if modality.noise.has_scale else draws:
            _check_predicted(modality, predict(draw))


def _check_predicted(modality: Any, value: np.ndarray) -> None:
    owner, shape = f"modality {modality.name!r}", modality.data.shape
    if value.size != modality.data.size or (value.ndim > 1 and value.shape != shape):
        raise ValueError(
            f"{owner}: {value.shape} predicted values for data of shape {shape}; they must agree "
            f"(dims {modality.data.dims})"
        )
    if not np.all(np.isfinite(value)):
        raise ValueError(
            f"{owner}: the predicted data are not finite at a prior draw; narrow the priors or "
            "mend the map"
        )
    modality.noise.check_response(owner, value)


def _predictor(modality: Any, scratch: ModelBuild, inputs: dict[str, Any]) -> Callable:
    """Return the function from a draw of the latents to the predicted data."""
    output = modality.forward.output(scratch)
    seen = pt.tensor("output", dtype=output.type.dtype, shape=(None,) * output.type.ndim)
    names = modality.forward.latents
    forward = compiled_function([inputs[n] for n in names], output, UNOPTIMISED)

    def predict(draw: dict[str, np.ndarray]) -> np.ndarray:
        value = forward(*(draw[n] for n in names))
        try:
            response = modality.operator.apply(scratch, seen)
            return np.asarray(compiled_function([seen], response, UNOPTIMISED)(value))
        except (ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"modality {modality.name!r}: observe does not fit the output of the map "
                f"{modality.forward.name!r}, shape {value.shape}: {str(error).splitlines()[0]}"
            ) from error

    return predict
