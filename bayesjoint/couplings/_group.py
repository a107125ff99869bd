"""What the normaliser of a potential depends on: the couplings and priors it is tied to."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from bayesjoint.priors import Prior


def connected(coupling: Any, couplings: Sequence[Any]) -> list[Any]:
    """Return the other couplings that share latents with one, directly or through others."""
    reached, rest, found = set(coupling.latents), list(couplings), []
    while touched := [c for c in rest if reached.intersection(c.latents)]:
        found += touched
        reached.update(*(c.latents for c in touched))
        rest = [c for c in rest if not reached.intersection(c.latents)]
    return [c for c in found if c.name != coupling.name]


def upstream(coupling: Any, couplings: Sequence[Any]) -> set[str]:
    """Return the latents on whose priors the coupled fields depend, themselves among them."""
    reached = set(coupling.latents)
    while not (more := set().union(*(c.sources_of(reached) for c in couplings))) <= reached:
        reached |= more
    return reached


def tabulated(coupling: Any) -> tuple[str, ...]:
    """Return the fields over whose length scale the normaliser of a potential is tabulated."""
    return tuple(getattr(coupling.normaliser, "length_scale", ()))


def digest(
    coupling: Any,
    latents: Mapping[str, Any],
    couplings: Sequence[Any],
    over: Sequence[str] = (),
) -> str:
    """Return a digest of all that log Z depends on, but for weight and length scales of some."""
    others = connected(coupling, couplings)
    parts = [_plain(coupling, {"weight", "normaliser"}), *map(_plain, others)]
    touched = [name for c in (coupling, *others) for name in c.latents]
    plain = all(_dimensionless(c) for c in (coupling, *others))
    for latent in (latents[name] for name in touched):
        left_out = {"units"} | ({"length_scale"} if latent.name in over else set())
        # Divided by the current sd, a field of constant mean keeps neither.
        varies = np.ptp(latent.mean) > 0 if is_array(getattr(latent, "mean", 0.0)) else False
        parts.append(_plain(latent, left_out if varies or not plain else left_out | {"sd", "mean"}))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def is_array(value: Any) -> bool:
    """Tell whether a setting has several values that are known."""
    return not isinstance(value, Prior) and np.size(value) > 1


def _dimensionless(coupling: Any) -> bool:
    """Tell whether a coupling knows its fields in prior standard deviations only."""
    return not getattr(coupling, "scales", None) and not hasattr(coupling, "function")


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
    if hasattr(value, "dims"):  # in an order that does not hang on how it was given
        dims = sorted(value.dims)
        return [dims, np.asarray(value.transpose(*dims)).tolist()]
    if hasattr(value, "toarray"):
        value = value.toarray()
    return value if value is None or isinstance(value, str) else np.asarray(value).tolist()
