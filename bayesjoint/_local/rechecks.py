"""Maps of users looked at once more where the posterior lies: whether they work, and derive."""

from collections.abc import Mapping

import numpy as np

from bayesjoint._compiled.failures import first_error
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace


def recheck(space: LatentSpace, point: np.ndarray, where: str) -> None:
    """Raise unless derivatives that users wrote are right at a flat point, too.

    That takes some ten evaluations of each black box.
    """
    problem = space.functions.problem
    maps = {id(m.forward.origin or m.forward): m.forward for m in problem.modalities}
    if not any(forward.is_user_derived for forward in maps.values()):
        return
    values = dict(zip(space.names, space.values(point), strict=True))
    for forward in maps.values():
        forward.recheck(forward.inputs(values), where)


def require_possible(
    functions: ModelFunctions, responses: Mapping[str, np.ndarray], where: str
) -> None:
    """Raise where the response of a modality is not finite, from the first exception of its map."""
    failing = [name for name, values in responses.items() if not np.all(np.isfinite(values))]
    if failing:
        words = [one.words for one in functions.counts if one.failed]
        forward = functions.problem.modality[failing[0]].forward
        raise ValueError(
            f"modality {failing[0]!r}: its map {forward.name!r} gives no finite numbers {where}; "
            f"{words[0] if words else 'give other values, or narrow the priors'}"
        ) from first_error(functions.counts)
