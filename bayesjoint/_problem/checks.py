"""What must hold between the parts of a problem; each check names object, fact and cure."""

import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import UNOPTIMISED, compiled_function, in_turn, random_draws
from bayesjoint._graph.differences import spreads_of
from bayesjoint._graph.outputs import MapFault, sizes_agree
from bayesjoint._problem import names
from bayesjoint._warnings import warn
from bayesjoint.couplings._group import connected, digest, tabulated, upstream
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem

CHECK_DRAWS = 3
MOST_DRAWS = 20  # from the prior, where a map fails at some

_checked_maps: "weakref.WeakKeyDictionary[Any, tuple]" = weakref.WeakKeyDictionary()


def check_references(problem: "JointProblem") -> None:
    """Raise unless names are unique and every map reads latents that there are."""
    names.check(problem)
    _check_reach(problem)


def check_parts(problem: "JointProblem") -> None:
    """Raise unless the parts of the problem, fitted to each other, are consistent."""
    _check_units(problem)
    for coupling in problem.couplings:
        _check_coupling(problem, coupling)
    for discrepancy in problem.discrepancies:
        discrepancy.check(problem.modality)
    for discrepancy in problem.observed.discrepancies:
        discrepancy.check_places(problem.observed.modality)
    _check_relations(problem)
    _check_responses(problem)


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
        warn(
            f"no modality reaches {unreached}: what is reported of them is the prior only, with "
            "its couplings"
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
        drawn = [_draw(v, v.name in whites, rng) for v in free]
        try:
            values = iter(evaluate(*drawn))
        except Exception as error:  # whatever the graph of a user raises
            named = " or ".join(build.shaping[name].name for name in checks)
            raise ValueError(
                f"{named}: the function fails at a prior draw, or does not give one number a cell: "
                f"{str(error).splitlines()[0]}"
            ) from error
        for name, changes in checks.items():
            build.shaping[name].check_changes([next(values) for _ in changes])


def _check_responses(problem: "JointProblem") -> None:
    """Check maps and responses at prior draws, each map once as long as it lives."""
    if not problem.modalities:
        _latents_only(problem)  # raises where the shape of a prior does not fit
        return
    usable, tried = _usable_draws(problem)
    for forward in _maps(problem):
        if not _is_checked(forward, usable[0]):
            values = [forward.inputs(draw) for draw in usable]
            try:
                _check_map(forward, values, spreads_of([forward.inputs(draw) for draw in tried]))
            except MapFault:
                _check_sizes(problem, forward, usable[0])  # a wrong size tells more
                raise
            _checked_maps[forward.origin or forward] = _signature(forward, usable[0])
    _check_shapes(problem, usable)


def _maps(problem: "JointProblem") -> list[Any]:
    """Return the maps of a problem, one for each physics."""
    return list({id(m.forward.origin or m.forward): m.forward for m in problem.modalities}.values())


def _signature(forward: Any, draw: dict[str, np.ndarray]) -> tuple:
    return tuple(np.shape(value) for value in forward.inputs(draw))


def _is_checked(forward: Any, draw: dict[str, np.ndarray]) -> bool:
    return _checked_maps.get(forward.origin or forward) == _signature(forward, draw)


def _usable_draws(problem: "JointProblem") -> tuple[list[dict], list[dict]]:
    """Return prior draws at which all maps can be evaluated, and all that were tried.

    Raises
    ------
    ValueError
        When there are none; it shows the first exception of a map.
    """
    maps, usable, tried = _maps(problem), [], []
    failed: dict[int, list] = {id(forward): [] for forward in maps}
    for draw in islice(_prior_draws(problem), MOST_DRAWS):
        tried.append(draw)
        faults = {id(f): fault for f in maps if (fault := _fault_at(f, draw)) is not None}
        for key, fault in faults.items():
            failed[key].append(fault)
        usable += [] if faults else [draw]
        needed = 1 if all(_is_checked(f, draw) for f in maps) else CHECK_DRAWS
        if len(usable) >= needed and len(tried) >= needed:
            break
    worst = max(maps, key=lambda f: len(failed[id(f)]))
    if not usable:
        _raise_unusable(worst, failed[id(worst)], len(tried))
    for forward in maps:
        if failed[id(forward)] and not _is_checked(forward, usable[0]):
            _warn_of(forward, failed[id(forward)], len(tried))
    return usable, tried


def _fault_at(forward: Any, draw: dict[str, np.ndarray]) -> Exception | str | None:
    """Return the exception, or the words, that tell why a map fails at a draw."""
    try:
        output = forward.evaluated(forward.inputs(draw))
    except (MapFault, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 whatever a user's code raises
        return error
    if output is not None and output.size == 0:
        raise MapFault(f"map {forward.name!r}: its output has shape (0,); give one number a datum")
    if output is None or np.all(np.isfinite(output)):
        return None
    return f"{np.sum(~np.isfinite(output))} of {output.size} outputs are not finite"


def _raise_unusable(forward: Any, faults: list, tried: int) -> None:
    errors = [fault for fault in faults if isinstance(fault, Exception)]
    start = f"map {forward.name!r}:"
    if errors:
        first = errors[0]
        raise ValueError(
            f"{start} it fails at {len(faults)} of {tried} prior draws, so that no point is known "
            f"at which the problem can be evaluated; the first fails with {type(first).__name__}: "
            f"{first}"
        ) from first
    raise ValueError(
        f"{start} {faults[0]} at a prior draw, and at {len(faults)} of {tried}; narrow the priors "
        "or mend the map"
    )


def _warn_of(forward: Any, faults: list, tried: int) -> None:
    first = next((fault for fault in faults if isinstance(fault, Exception)), faults[0])
    shown = f"{type(first).__name__}: {first}" if isinstance(first, Exception) else first
    warn(
        f"map {forward.name!r} fails at {len(faults)} of {tried} prior draws, the first with "
        f"{shown}; such points count as impossible"
    )


def _check_sizes(problem: "JointProblem", forward: Any, draw: dict[str, np.ndarray]) -> None:
    """Raise where a map predicts another number of data than there are."""
    output = forward.evaluated(forward.inputs(draw))
    if output is None:
        return
    form = forward.form_in(draw)
    for modality in problem.modalities:
        same = (modality.forward.origin or modality.forward) is (forward.origin or forward)
        if same and modality.observe is None and output.size != modality.data.size:
            _check_predicted(modality, output if form is None else output.reshape(form.shape))


def _check_map(forward: Any, draws: list[list[np.ndarray]], spreads: list[np.ndarray]) -> None:
    """Check a derivative; the exception of a user's code is told with the map's name."""
    try:
        forward.check(draws, spreads)
    except (MapFault, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"map {forward.name!r}: its derivative fails at a prior draw with "
            f"{type(error).__name__}: {error}"
        ) from error


def prior_values(problem: "JointProblem", count: int) -> list[dict[str, np.ndarray]]:
    """Return draws of all latents from the prior without potentials, for checks (seed 0)."""
    return list(islice(_prior_draws(problem), count))


def _prior_draws(problem: "JointProblem") -> Iterator[dict[str, np.ndarray]]:
    build = _latents_only(problem)
    free = [build.model[v.name] for v in build.model.free_RVs]
    outputs = [build.values[name] for name in problem.latent]
    evaluate = compiled_function(free, outputs, UNOPTIMISED)
    rng = np.random.default_rng(0)
    whites = {u.variable for u in build.unknowns if u.white}
    while True:
        inputs = [_draw(v, v.name in whites, rng) for v in free]
        yield dict(zip(problem.latent, evaluate(*inputs), strict=True))


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
        # Counts need a positive expectation, so one draw is not enough.
        for draw in draws[:1] if modality.noise.has_scale else draws:
            _check_predicted(modality, predict(draw))


def _check_predicted(modality: Any, value: np.ndarray) -> None:
    owner, shape = f"modality {modality.name!r}", modality.data.shape
    placed = min(value.ndim, len(shape)) <= 1 or sizes_agree(value.shape, shape)
    if value.size != modality.data.size or not placed:
        cure = "they must agree"
        if value.ndim > 1 and sizes_agree(value.shape[::-1], shape):
            cure = "transpose one of them"
        elif value.size == modality.data.size:
            cure = "they must agree, or the map must return them flat, in C order of the data"
        raise ValueError(
            f"{owner}: {value.shape} predicted values for data of shape {shape}; {cure} "
            f"(dims {modality.data.dims})"
        )
    value = value.ravel()[modality.places]
    if not np.all(np.isfinite(value)):
        raise ValueError(
            f"{owner}: the predicted data are not finite at a prior draw; narrow the priors or "
            "mend the map"
        )
    modality.noise.check_response(owner, value)


def _predictor(modality: Any, scratch: ModelBuild, inputs: dict[str, Any]) -> Callable:
    """Return the function from a draw of the latents to the predicted data."""
    names = modality.forward.latents
    inputs_of_map = [inputs[n] for n in names]
    output = modality.forward.output(scratch)
    forward = compiled_function(inputs_of_map, output, UNOPTIMISED)

    def predict(draw: dict[str, np.ndarray]) -> np.ndarray:
        value = forward(*(draw[n] for n in names))
        seen = pt.tensor("output", dtype=output.type.dtype, shape=value.shape)
        ordered = modality.in_order(seen, modality.forward.form_in(inputs))
        try:
            response = modality.operator.apply(scratch, ordered)
            return np.asarray(compiled_function([seen], response, UNOPTIMISED)(value))
        except MapFault:
            raise
        except (ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"modality {modality.name!r}: observe does not fit the output of the map "
                f"{modality.forward.name!r}, shape {value.shape}: {str(error).splitlines()[0]}"
            ) from error

    return predict
