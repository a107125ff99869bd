"""Whole modalities left out by refit, and predicted from all others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._compiled.functions import compiled
from bayesjoint._graph.compile import threads_for
from bayesjoint._names import labelled, made, marked
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.reports import identifiability
from bayesjoint.reports._smoothed import FEWEST, smoothed_weights
from bayesjoint.sampling import sample
from bayesjoint.studies._left_out import Judged, LeftOut, completed, linked
from bayesjoint.studies._left_out_words import left_out_words

OWNER = "leave_modality_out"
UNSEEN = 1e-6  # contraction below which a parameter is as its prior


@labelled
def leave_modality_out(
    problem: JointProblem,
    modality: str | Sequence[str] | None = None,
    *,
    draws: int = 400,
    random_seed: int | None = None,
    refitted: Mapping[str, xr.DataTree] | None = None,
    nuts: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Refit a problem without a modality, each in turn, and predict it from all others.

    Parameters
    ----------
    problem : JointProblem
        With two or more modalities.
    modality : str or sequence of str, optional
        Which are left out, one at a time.  Default: each.
    draws : int
        Data sets that are predicted, each by a draw of the refit; as many other draws judge them.
        Fewer where a refit has fewer than twice as many.
    random_seed : int, optional
        Makes the result repeatable.
    refitted : mapping of modality to DataTree, optional
        Posteriors of ``problem.without(modality)`` that are there already, from `sample`.
    nuts : mapping, optional
        Arguments of `sample` for the others.

    Returns
    -------
    Dataset
        Of each modality left out, on the dims of its data and in their units:

        - ``<modality>_predicted`` (sample, ...): data sets drawn given all others, discrepancy and
          noise included; ``<modality>_measured``; NaN where data are missing;
        - ``<modality>_pit``: share of predicted data below the measured one, half of those equal.

        Along ``modality``:

        - ``log_density``: of the measured data set as a whole in that prediction, nats, with
          ``log_density_mcse``, the Monte Carlo error, bias of few draws included, and ``pareto_k``:
          above 0.7 few draws come near the data, and the number is a rough one;
        - ``log_density_predicted`` (modality, sample): of the predicted data sets;
        - ``p_value``: share of data sets, predicted and measured, that are no more probable than
          the measured one; the smallest region that reaches the data holds all but that;
        - ``gain``: what the data would teach about the unknowns, the Kullback-Leibler divergence of
          the posterior with them from that without, nats; ``p_value_gain``: share of data sets that
          would teach as much or more, small where they contradict the others; ``dofs``: number of
          combinations of the data that the others leave open by more than errors;
        - ``unseen`` (modality, parameter): parameters of the modality of which no other tells
          anything, linearised, beyond the coupled prior; there the prior predicts.

        Attribute ``words``: a list of sentences, which modality the others fail to predict.

    Raises
    ------
    ValueError
        When there are fewer than two modalities or 25 draws, or no such modality; a refit is not
        one without the modality; or one that shares a discrepancy with the modality has noise that
        is not Gaussian, is tempered, or has an unknown correlation for each pair of three or more.

    Notes
    -----
    Nothing of the left-out data enters: unknowns of the errors of that modality alone have their
    prior.  Given the unknowns of a draw, ``p(y_s | m, y_rest)`` is the ratio of the Gaussian
    densities of all and of the rest, so that correlated errors are predicted from the residuals of
    the others, and data sets follow by Matheron's rule.  Half of the draws that are taken predict,
    the others judge predicted and measured data sets alike, so that the p-values hold whatever the
    statistic.  The density finds data far off, the gain a small contradiction in many data.

    Where a data set tells more than the others, no draw comes near it, and the plain average of
    densities over draws would be a gamble.  Each draw therefore stands for a Gaussian kernel of
    expected data, shrunk towards their mean, so that mean and covariance stay (West 1993, J. R.
    Stat. Soc. B 55, 409); narrow where ``dofs`` are few, one Gaussian where they are many.  The
    gain is that of Gaussian expected data.  With noise that is not Gaussian the average is plain,
    over draws of the discrepancy, and the gain weighs data by their Fisher information.  A tempered
    modality is predicted with its noise as stated.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> gauges = [
    ...     bj.Modality(
    ...         name, xr.DataArray(np.full(4, value), dims=f"{name}_time"),
    ...         bj.linear_map(np.ones((4, 1)), "level"), bj.GaussianNoise(sd=0.1),
    ...     )
    ...     for name, value in {"old": 0.1, "new": 0.9}.items()
    ... ]
    >>> problem = bj.JointProblem(latents=[level], modalities=gauges)
    >>> left_out = bj.leave_modality_out(
    ...     problem, "new", random_seed=1,
    ...     nuts={"draws": 200, "chains": 2, "progress": False, "backend": "interpreted"},
    ... )
    >>> left_out["new_predicted"].dims
    ('sample', 'new_time')
    >>> bool(left_out["p_value"].sel(modality="new") < 0.01)
    True
    """
    require_problem(problem)
    _arguments.check(OWNER, draws=draws)
    _arguments.check_given(OWNER, modality=modality, random_seed=random_seed, nuts=nuts)
    names = _names(problem, modality)
    _check_draws(draws)
    for name in names:
        _check(problem, name)
    given, settings = (
        _arguments.trees(OWNER, "refitted", refitted),
        {"random_seed": random_seed, **(nuts or {})},
    )
    _check_refitted(problem, names, given)
    trees = {
        name: given[name] if name in given else sample(problem.without(name), **settings)
        for name in names
    }
    draws = min(draws, *(_count(tree) // 2 for tree in trees.values()))
    seeds, parts = np.random.SeedSequence(random_seed).spawn(len(names)), []
    with compiled(problem) as functions, threads_for(functions.size + functions.rank):
        for name, seed in zip(names, seeds, strict=True):
            rng = np.random.default_rng(seed)
            points = completed(functions, trees[name], 2 * draws, rng)
            parts.append(_predicted(LeftOut(functions, name), points, rng))
    report = _labelled(problem, names, parts)
    report["unseen"] = xr.concat([_unseen(problem, n, trees[n]) for n in names], "modality")
    report = report.assign_attrs(
        report=OWNER, draws=draws, coupled=int(bool(problem.couplings)),
        random_seed=-1 if random_seed is None else random_seed,
    )  # fmt: skip
    return report.assign_attrs(words=left_out_words(report))


def _names(problem: JointProblem, modality: str | Sequence[str] | None) -> list[str]:
    known = list(problem.modality)
    names = known if modality is None else [modality] if isinstance(modality, str) else modality
    if len(known) < 2:
        raise ValueError(
            f"{OWNER}: the problem has {len(known)} modality; two or more can predict each other"
        )
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{OWNER}: no modality {unknown}; there are {known}")
    return list(names)


def _check_draws(draws: int) -> None:
    if draws < FEWEST:
        raise ValueError(f"{OWNER}: draws={draws}; {FEWEST} are the least, 200 tell a failure")


def _check(problem: JointProblem, name: str) -> None:
    """Raise unless the errors of a modality are known given those of all others."""
    for other in (problem.modality[n] for n in linked(problem, name) if n != name):
        fault = "" if other.noise.is_normal else "its noise is not Gaussian"
        fault = fault or ("" if other.power == 1.0 else f"it is tempered (power {other.power:g})")
        if fault:
            raise ValueError(
                f"{OWNER}: modality {other.name!r} shares a discrepancy with {name!r} and {fault}, "
                f"so that its residuals do not tell the errors of {name!r} in closed form; give it "
                "Gaussian noise and power=1, or leave out another"
            )
    for discrepancy in problem.discrepancies:
        touched = discrepancy.touches(problem.modality)
        if name in touched and len(touched) > 2 and _of_pairs(discrepancy.correlation):
            raise ValueError(
                f"{OWNER}: {discrepancy.owner} has an unknown correlation for each pair, of which "
                f"those of {name!r} are not independent of the others; give it a prior over one "
                "common correlation, or the matrix"
            )


def _of_pairs(correlation: Any) -> bool:
    return getattr(getattr(correlation, "distribution", None), "__name__", "") == "LKJCorr"


def _check_refitted(problem: JointProblem, names: Sequence[str], given: Mapping) -> None:
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"{OWNER}: refitted= names {unknown}; left out are {list(names)}")
    for name, tree in given.items():
        expected = [n for n in problem.modality if n != name]
        observed = tree["observed_data"].data_vars if "observed_data" in tree.children else []
        stored = sorted(map(str, observed))
        if stored != sorted(expected):
            raise ValueError(
                f"{OWNER}: refitted[{name!r}] was sampled with the data {stored}, not with "
                f"{expected}; give bj.sample(problem.without({name!r}))"
            )


def _count(tree: xr.DataTree) -> int:
    sizes: Any = tree["posterior"].sizes
    return sizes["chain"] * sizes["draw"]


def _predicted(left_out: LeftOut, points: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return predicted data sets (sample, datum), and numbers that judge the measured one.

    Every second draw predicts, the others judge, so that no data set is judged by its own draw.
    """
    predicted = np.array([left_out.predict(point, rng)[2] for point in points[::2]])
    measured = left_out.functions.data[left_out.rows]
    judged = Judged(left_out, points[1::2], np.concatenate([measured[None], predicted]), rng)
    return {
        "predicted": predicted,
        "pit": np.mean(predicted < measured, axis=0) + 0.5 * np.mean(predicted == measured, axis=0),
        "log_density": judged.log_density[0],
        "log_density_mcse": judged.error[0],
        "pareto_k": _pareto_k(judged.each[:, 0]),
        "log_density_predicted": judged.log_density[1:],
        "p_value": _share(judged.log_density[1:] <= judged.log_density[0]),
        "gain": judged.gain[0],
        "p_value_gain": _share(judged.gain[1:] >= judged.gain[0]),
        "dofs": judged.dofs,
    }


def _share(beyond: np.ndarray) -> float:
    """Return the share of data sets beyond the measured one, which counts as one of them."""
    return float((1 + np.sum(beyond)) / (1 + beyond.size))


def _pareto_k(log_density: np.ndarray) -> float:
    """Return Pareto's k of the terms of a mean density."""
    return smoothed_weights(-log_density, OWNER)[1]


def _unseen(problem: JointProblem, name: str, tree: xr.DataTree) -> xr.DataArray:
    """Tell which parameters that a modality reads are as their prior without it."""
    contraction = identifiability(tree)["contraction_linearised"]
    latent = {label: str(label).split("[")[0] for label in contraction["parameter"].values}
    kept = contraction.sel(parameter=[k for k, of in latent.items() if of in problem.latent])
    read = problem.modality[name].forward.latents
    of_modality = [latent[label] in read for label in kept["parameter"].values]
    return (kept < UNSEEN) & xr.DataArray(of_modality, dims="parameter")


def _on_image(values: np.ndarray, places: np.ndarray, data: xr.DataArray) -> np.ndarray:
    """Return values of observed data, last axis, in the shape of all, NaN elsewhere."""
    image = np.full((*values.shape[:-1], data.size), np.nan)
    image[..., places] = values
    return image.reshape(*values.shape[:-1], *data.shape)


def _labelled(problem: JointProblem, names: list[str], parts: list[dict]) -> xr.Dataset:
    """Return predictions on the dims of the data, and numbers along the modalities."""
    variables: dict[str, Any] = {}
    for name, part in zip(names, parts, strict=True):
        data = marked(problem.labelled_data[name])
        places = problem.modality[name].places
        predicted, pit = (_on_image(part[key], places, data) for key in ("predicted", "pit"))
        dims = ("sample", *data.dims)
        variables[made(f"{name}_predicted")] = xr.DataArray(
            predicted, data.coords, dims, attrs=data.attrs
        )
        variables[made(f"{name}_measured")] = data
        variables[made(f"{name}_pit")] = xr.DataArray(pit, data.coords, data.dims)
    for key in parts[0]:
        if key not in ("predicted", "pit"):
            values = np.array([part[key] for part in parts])
            variables[key] = (("modality", "sample")[: values.ndim], values)
    return xr.Dataset(variables, {"modality": names})
