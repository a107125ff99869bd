"""NUTS preconditioned with the likelihood-informed spectrum, and the tree of results."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments, _names
from bayesjoint._compiled import failures as _failures
from bayesjoint._compiled.density import CompiledDensity, default_backend
from bayesjoint._compiled.draws import DrawTable
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import threads_for
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler import resuming as _resuming
from bayesjoint._sampler import run as _run
from bayesjoint._sampler import store as _store
from bayesjoint._sampler.interrupts import deferred
from bayesjoint._sampler.joint_draw import joint_points
from bayesjoint._sampler.progress import Followed
from bayesjoint._warnings import warn
from bayesjoint.linearization import (
    at_other_modes,
    default_starts,
    discrepancy_forms,
    linearization_at_mode,
)
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.reports import diagnose
from bayesjoint.reports._impossible import divergence_words
from bayesjoint.reports.diagnostics import LARGE_R_HAT

PRIOR_DRAWS = 500
CHECKPOINTS = 20  # of a run; random numbers follow from their count, stored or not


def sample(
    problem: JointProblem,
    draws: int = 1000,
    tune: int = 300,
    chains: int = 4,
    *,
    random_seed: int | None = None,
    cores: int | None = None,
    target_accept: float | None = None,
    backend: str | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint: int | None = None,
    progress: bool = True,
    keep_white: bool = False,
    prior_draws: int = PRIOR_DRAWS,
) -> xr.DataTree:
    """Return the posterior of a joint problem as an ArviZ-ready DataTree.

    Parameters
    ----------
    problem : JointProblem
    draws, tune, chains : int
        Draws kept and warm-up draws of each chain, and the number of chains.
    random_seed : int, optional
        Makes the run repeatable, bit for bit, on one machine, with the same ``checkpoint``.
    cores : int, optional
        Chains that run at the same time; all processors by default.
    target_accept : float, optional
        Acceptance that the step size is adapted to.  Default: 0.8, which in preconditioned
        coordinates costs the fewest gradients for an effective draw; where the second half of the
        warm-up has divergences it is repeated with 0.9, then 0.95 and 0.99; where they are more
        than 2 % one value is skipped.
    backend : {"numba", "interpreted"}, optional
        How the log-density is compiled.  Default: numba, which costs half a minute the first time,
        about a second from its cache, and ten to thirty times less a gradient; "interpreted" starts
        at once and is the default where a forward map is a black box, which dominates the cost
        anyway.
    store : path, optional
        Folder of a zarr store to which every group is streamed while the run goes on.  Whatever
        stops the run, what was drawn until the last checkpoint is safe: see `open_store`.  While
        it is written no other run may write it, which a lock file beside it sees to.  What
        `sample` did not write is never replaced.
    resume : bool
        Go on with the run in ``store``: every chain from its last draw, with its step size and
        spectrum, up to ``draws``.  Starts a run where there is none.  A resumed run has the very
        draws of an uninterrupted one, unless it was interrupted within a checkpoint.
    overwrite : bool
        Replace a finished run in ``store``, once the new one has warmed up.  An unfinished one is
        never replaced.
    checkpoint : int, optional
        Draws of each chain between two writes to the store.  Default: a twentieth of ``draws``.
        Random numbers are anew at each, so that a run has the same draws with a store and without.
    progress : bool
        Show progress: draws, divergences and effective sample size of every chain, time left.
    keep_white : bool
        Keep the white variables in the posterior group; they take as much room as the fields.
    prior_draws : int
        Draws of the coupled prior, in all.

    Returns
    -------
    DataTree
        Groups posterior, sample_stats, posterior_predictive, prior, prior_predictive,
        log_likelihood, predictive_cdf, log_likelihood_joint, log_prior, slopes (of the
        log-density, see `diagnose`), observed_data, constant_data and linearization; mahalanobis
        and log_likelihood_conditional where errors are correlated.  Where data are missing,
        responses and replicated data are there too, a discrepancy is NaN (see
        `predict_discrepancy`), and so are replicated data whose noise sd is NaN, or whose
        discrepancy has too many places.  Attributes of the posterior group:
        ``sampling_time`` (s, warm-up included, compilation not),
        ``tuning_steps``, ``refreshes`` of the spectrum, ``recentred`` (whether fields were, see
        Notes), and the judgement of `diagnose`: ``verdict``, ``diagnostics`` (a paragraph), and its
        numbers.  Where a map is a black box also ``evaluations`` and ``failed_evaluations``, the
        points at which it was asked and at which it failed, and ``first_failure``, the traceback of
        the first exception.  From a store, a large tree is read as it is used.

    Raises
    ------
    ValueError
        When settings are not positive, the backend is unknown, or a coordinate cannot be stored;
        when the store holds a finished run and neither ``resume`` nor ``overwrite`` is asked for,
        an unfinished one and ``resume`` is not, a run of another problem or with other ``tune``,
        ``chains``, ``random_seed``, ``target_accept`` or ``keep_white``, is damaged, or is not of
        `sample`.  When a map fails wherever the search for the maximum starts, from the first
        exception; when a derivative that a user wrote is wrong at the maximum or at the end of the
        warm-up.
    OSError
        When the store cannot be written, for instance because the disk is full; of the kind
        BlockingIOError when another process is writing it.
    KeyboardInterrupt
        After Ctrl-C before every chain has a draw.  After one draw of each, the first two requests
        end the run as soon as nothing is lost, and the draws made are returned; a third one raises.

    Warns
    -----
    UserWarning
        When there were divergences, chains do not agree (r-hat above 1.05), a map failed at some
        points (see `numpy_map`), an interrupt left fewer draws, or a process was killed while it
        wrote the store.

    Notes
    -----
    NUTS (Hoffman & Gelman 2014) moves in ``xi`` of ``z = z* + (I + V diag(s) V^T) xi``, where
    ``s = (1 + lambda)^-1/2 - 1``, with eigenpairs of ``H + Gamma`` at the maximum a posteriori:
    there the posterior is nearly standard normal.  The density is the model's own, so that the
    draws are exact whatever the coordinates.  Its steps split off the standard normal, along which
    they turn exactly (Shahbaba et al. 2014, doi 10.1007/s11222-012-9373-1): directions that the
    data leave to the prior cost no step, so that the steps of a draw do not grow with the grid.
    Where the warm-up still takes more than 16 steps a draw, the posterior is not as the mode says:
    the spectrum is computed anew, averaged over where the chains are, and the warm-up repeated.

    Where data are precise, white coordinates z of a field follow every move of its sd, length scale
    or correlation h, if these are unknown.  Where a short trial takes more than 16 steps a draw or
    diverges, such fields are recentred: chains move in ``x`` of ``z = m(h) + T(h) x``, with m and
    ``T T^T`` the mean and covariance of z given h by the linearised data, and the volume in the
    density; a gradient then costs as the cube of the number of directions that the data inform.

    The variables of ``log_likelihood`` are independent factors and add up to the log-likelihood, as
    power-scaling (``az.psense``) needs it: each datum where errors are independent, one variable
    ``joint(a, b)`` of modalities whose errors are correlated, so that ``az.loo`` leaves all of
    these out at once.  ``log_likelihood_conditional`` has each of their data given all others, for
    `leave_one_out`.  ``docs/arviz.md`` tells what each function of ArviZ computes of them.

    Where the search finds several modes, chains start at each that holds more than e^-10 of the
    heaviest by Laplace's approximation, in proportion to what they hold, and the spectrum is
    averaged over them.  Modes that the chains do not leave show in r-hat and in the verdict; the
    attributes ``mode_of_chain`` and ``mode_weights`` of the posterior group tell where each chain
    started and what each mode holds.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> slope = bj.Parameter("slope", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> line = bj.Modality(
    ...     "line", xr.DataArray([1.0], dims="x"), bj.linear_map(np.array([[1.0]]), "slope"),
    ...     bj.GaussianNoise(sd=0.5),
    ... )
    >>> problem = bj.JointProblem(latents=[slope], modalities=[line])
    >>> tree = bj.sample(problem, draws=200, tune=200, chains=2, random_seed=1, progress=False)
    >>> tree["posterior/slope"].sizes["draw"]
    200
    """
    require_problem(problem)
    _arguments.check(
        "sample", draws=draws, tune=tune, chains=chains, prior_draws=prior_draws, resume=resume,
        overwrite=overwrite, progress=progress, keep_white=keep_white,
    )  # fmt: skip
    _arguments.check_given(
        "sample", random_seed=random_seed, cores=cores, target_accept=target_accept,
        backend=backend, checkpoint=checkpoint,
    )  # fmt: skip
    path = None if store is None else _folder("sample: store", store)
    every = checkpoint or max(1, -(-draws // CHECKPOINTS))
    settings = _nuts.Settings(target_accept or _run.ACCEPT, cores=cores)
    with _store.writing(path) if path else nullcontext():
        known = _store.opened_to_write(path, resume, overwrite) if path else None
        if path:
            _check_storable(path, problem)
        if path and known:
            _resuming.require_same(
                path, known, random_seed, chains=chains, tune=tune, keep_white=keep_white,
                target_accept=target_accept,
            )  # fmt: skip
        output = _store.ZarrOutput(path, every, known) if path else _store.MemoryOutput()
        try:
            with compiled(problem) as functions, threads_for(functions.size + functions.rank):
                _failures.reset(functions.counts)
                kind = backend or default_backend(problem)
                functions.density = functions.once(CompiledDensity, kind)
                run = _resuming.resume(functions, path, known, settings, draws) if known else None
                shown = len(run.chains) if run else chains, tune, draws, run.done if run else 0
                with Followed(progress, *shown) as followed:
                    begun = None
                    if run is None:
                        linearizations, modes = _modes(functions)
                        run = _run.begin(
                            functions, modes, settings, random_seed=random_seed, chains=chains,
                            tune=tune, draws=draws, keep_white=keep_white, followed=followed,
                            careful=target_accept is None,
                        )  # fmt: skip
                        begun = _static_groups(run, prior_draws, linearizations), run.sampler()
                    with deferred():
                        if begun:
                            output.begin(*begun)
                        run.draw(output, draws, every, followed)
                        return _told(run, output, draws)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_what_is_kept(path, known is None)) from None


def _told(run: _run.Run, output: Any, draws: int) -> xr.DataTree:
    """Return the tree of a run with the judgement of its chains, which is stored too."""
    if not run.done:
        raise KeyboardInterrupt
    counts, tree = run.functions.counts, output.tree()
    failed = _failures.as_attrs(counts, tree["posterior"].attrs)
    asked = {"draws_asked": max(draws, run.done)} if run.done >= draws else {}
    told = {**run.facts, **asked, **failed, **_in_words(diagnose(tree))}
    tree["posterior"].attrs.update(told)
    output.note(told, asked.get("draws_asked", 0))
    _warn(tree, draws, sum(count.failed for count in counts))
    _failures.warn(counts)
    return tree


def _what_is_kept(path: Path | None, new: bool) -> str:
    """Return what an interrupt has left where no tree is returned, of a run that is new or not."""
    draws = _store.recorded(path) if path else 0
    if path and draws and new and _store.finished(path):
        return (
            "interrupted before every chain had a draw: there is nothing to keep, and the finished "
            f"run in store {str(path)!r}, {draws} draws of each chain, is untouched"
        )
    if draws:
        return (
            f"interrupted; the {draws} draws of each chain in store {str(path)!r} are safe: "
            "bj.open_store reads them, resume=True goes on"
        )
    return "interrupted before every chain had a draw: there is nothing to keep"


def _check_storable(path: Path, problem: JointProblem) -> None:
    """Raise before anything is computed where a store cannot hold what is the user's."""
    for name, data in problem.labelled_data.items():
        _store.require_storable(path, f"modality {name!r}", data.to_dataset(name=name))
    _store.require_storable(path, "coordinates", xr.Dataset(coords=problem.coords))


def _folder(what: str, given: Any) -> Path:
    """Return a path that was given."""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f'{what} is {given!r}; give the path of a folder, as "survey.zarr"')
    return Path(given)


def open_store(store: str | Path) -> xr.DataTree:
    """Return the posterior in a store, finished or not.

    Parameters
    ----------
    store : path
        As given to `sample`.

    Returns
    -------
    DataTree
        As from `sample`, with the draws up to the last checkpoint, which is where a run that was
        interrupted, killed or out of disk is cut off.  Attribute ``draws_asked`` of the posterior
        group is there when the run was finished.

    Raises
    ------
    FileNotFoundError
        When there is no store, or no draw in it yet.
    ValueError
        When the store is damaged: a group, array or chunk is missing or has changed.  A tree of
        more than a gigabyte is read, and its values are checked, as it is used.

    Warns
    -----
    UserWarning
        When the draws are whole, but what continues the run is damaged.

    Notes
    -----
    Nothing is written, so that a run can be looked at while it goes on.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> bj.open_store("nowhere.zarr")
    Traceback (most recent call last):
    FileNotFoundError: store 'nowhere.zarr': there is no run in it; give the store= of bj.sample
    """
    return _store.read(_folder("open_store: store", store))


def _in_words(judged: xr.Dataset) -> dict[str, Any]:
    """Return the judgement of the chains as attributes."""
    numbers = {str(name): float(value) for name, value in judged.data_vars.items()}
    return {"verdict": judged.attrs["verdict"], "diagnostics": judged.attrs["text"], **numbers}


def _modes(functions: ModelFunctions) -> tuple[dict[str, xr.Dataset], np.ndarray]:
    """Return linearizations at the mode and others as high, and all modes that are sampled."""
    problem = functions.whole
    integrated = _with_discrepancy_integrated_out(problem)
    if integrated is problem:
        linearization, mode = linearization_at_mode(functions, default_starts(problem))
        return {"linearization": linearization, **at_other_modes(functions, mode)}, mode.points
    with compiled(integrated) as reference:
        linearization, mode = linearization_at_mode(reference, default_starts(problem))
        others = at_other_modes(reference, mode)
        full = [_with_discrepancy(functions, reference, point) for point in mode.points]
    forms = discrepancy_forms(functions.once(LatentSpace), full[0])  # of what is sampled
    found = {"linearization": linearization, **others}
    return {k: v.assign_attrs(discrepancy_forms=forms) for k, v in found.items()}, np.stack(full)


def _static_groups(
    run: _run.Run, prior_draws: int, linearizations: dict[str, xr.Dataset]
) -> dict[str, xr.Dataset]:
    """Return the groups that do not grow with the draws."""
    functions, rng = run.functions, run.random(_run.PRIOR)
    points = joint_points(functions, functions.density, rng, prior_draws)
    prior = _possible(run.evaluator.table(points))
    return {
        "prior": prior.prior(),
        "prior_predictive": prior.posterior_predictive(rng),
        "observed_data": xr.Dataset(functions.whole.labelled_data),
        "constant_data": _constant_data(functions),
        **{name: _names.released(dataset) for name, dataset in linearizations.items()},
    }


def _possible(table: DrawTable) -> DrawTable:
    """Return the draws at which all maps give numbers: others are impossible, whatever the data."""
    finite = np.ones(len(table.points), dtype=bool)
    for response in table.responses.values():
        finite &= np.isfinite(response.reshape(len(finite), -1)).all(axis=1)
    kept = np.flatnonzero(finite.reshape(table.shape).all(axis=0))
    return table if kept.size in (0, table.shape[1]) else table.part(kept)


def _with_discrepancy_integrated_out(problem: JointProblem) -> JointProblem:
    """Return the problem whose linearization and mode serve both forms of the discrepancy."""
    if not any(d.form == "latent" for d in problem.discrepancies):
        return problem
    changed = []
    for discrepancy in problem.discrepancies:
        names = discrepancy.touches(problem.modality)
        gaussian = all(
            problem.modality[n].noise.is_normal and problem.modality[n].power == 1.0 for n in names
        )
        changed.append(replace(discrepancy, form="auto") if gaussian else discrepancy)
    return problem.derived("integrated", problem.replace(discrepancy=tuple(changed)))


def _with_discrepancy(
    functions: ModelFunctions, reference: ModelFunctions, point: np.ndarray
) -> np.ndarray:
    """Return a flat point of the latent form, its discrepancy at the mean given the rest."""
    full = functions.initial.copy()
    for name, where in reference.slices.items():
        full[functions.slices[name]] = point[where]
    errors = functions.errors(full)
    residual = functions.rotate(functions.residual(full))
    solved = errors.solve(residual)
    for name, block in functions.sampled_factors(full).items():
        full[functions.slices[f"{name}_white"]] = functions.rotate(block).T @ solved
    return full


def _constant_data(functions: ModelFunctions) -> xr.Dataset:
    """Return the stated noise standard deviations, in the units of the data."""
    arrays = {}
    for name, modality in functions.whole.modality.items():
        if modality.noise.has_scale and modality.noise.correlation_factor is None:
            stated = modality.noise.stated(modality.data)
            units = modality.data.attrs.get("units", "")
            dims = [_names.user(dim) for dim in modality.data.dims]
            arrays[_names.made(f"{name}_noise_sd")] = dims, stated, {"units": units}
    return _names.released(xr.Dataset(arrays))


def _warn(tree: xr.DataTree, draws: int, failed: int) -> None:
    """Warn of an interrupt, and of divergences or chains apart: draws that cannot be trusted."""
    stats: Any = tree["sample_stats"]
    if (made := stats.sizes["draw"]) < draws:
        warn(
            f"interrupted: {made} of {draws} draws of each chain were made and are kept; with a "
            "store, resume=True goes on"
        )
    divergences = int(stats["diverging"].sum())
    if divergences:
        cure = (
            f"{divergences} divergences: steps to points where a map fails are among them; mend "
            "the map, or narrow the priors, before anything else"
            if failed
            else divergence_words(tree, divergences)
        )
        warn(cure)
    judged = tree["posterior"].attrs
    if judged["r_hat"] > LARGE_R_HAT:
        warn(
            f"the chains do not agree, r-hat {judged['r_hat']:.2f}: do not use these draws. "
            f"{judged['diagnostics']}"
        )
