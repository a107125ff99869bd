"""A run is taken up again where its store ends, if it is the same run."""

from typing import Any

from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler import run as _run
from bayesjoint._sampler import store as _store
from bayesjoint._sampler.chains import runner_for
from bayesjoint._sampler.identity import fingerprint, layout
from bayesjoint._sampler.marker import Marker


def require_same(path: Any, marker: Marker, random_seed: int | None, **settings: Any) -> None:
    """Raise where a run is to be resumed with other settings than it was begun with.

    Those that are None go on as they were.
    """
    sampler = _store.sampler_of(path, marker)[0]
    held = {
        "chains": sampler.sizes["chain"], "tune": int(sampler.attrs["tuning_steps"]),
        "keep_white": bool(sampler.attrs["keep_white"]),
        "target_accept": float(sampler.attrs["target_accept"]),
    }  # fmt: skip
    for name, value in settings.items():
        if value is not None and held[name] != value:
            raise ValueError(
                f"store {str(path)!r} holds a run with {name}={held[name]}, and resume=True goes "
                f"on with it; give {name}={held[name]}, not {value}, or another store"
            )
    entropy = sampler.attrs["entropy"]
    if random_seed is not None and str(random_seed) != entropy:
        raise ValueError(
            f"store {str(path)!r} holds a run with random_seed={entropy}, and resume=True goes on "
            f"with it; give random_seed={entropy} or None, not {random_seed}, or another store"
        )


def resume(
    functions: ModelFunctions, path: Any, marker: Marker, settings: _nuts.Settings, draws: int
) -> _run.Run:
    """Return the run in a store as it was at its last checkpoint.

    Raises
    ------
    ValueError
        When the store holds a run of another problem.
    """
    sampler, record = _store.sampler_of(path, marker)
    centre, vectors, stretch = (sampler[v].values for v in ("centre", "vectors", "stretch"))
    coordinates = Coordinates.around(centre, vectors, stretch, _run.given_of(sampler))
    if sampler.attrs["layout"] != layout(functions):
        raise _another(path, "names, shapes, coordinates or units differ")
    if sampler.attrs["fingerprint"] != fingerprint(functions, coordinates.centre):
        raise _another(path, "data, priors or physics differ")
    facts = {key: sampler.attrs[key] for key in
             ("sampling_time", "tuning_steps", "refreshes", "warm_up_steps", "target_accept",
              "inference_library")}  # fmt: skip
    facts |= {
        key: sampler.attrs[key] for key in (*_run.MODES, _run.RECENTRED) if key in sampler.attrs
    }
    facts["sampling_time"] = marker.seconds
    chains = _store.chains_of(sampler, record)
    return _run.Run(
        functions, runner_for(functions, len(chains), draws, settings.cores), settings,
        int(sampler.attrs["entropy"]), coordinates, chains, facts, marker.draws,
        marker.checkpoints, bool(sampler.attrs["keep_white"]), int(sampler.attrs["thinned"]),
        int(sampler.attrs["lengths_every"]), int(sampler.attrs["slopes_every"]),
    )  # fmt: skip


def _another(path: Any, why: str) -> ValueError:
    return ValueError(
        f"store {str(path)!r} holds a run of another problem: {why}; name another store, or sample "
        "the problem it was made for"
    )
