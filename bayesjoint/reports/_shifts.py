"""Parameters that several modalities share: where each of them, and all together, put them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.stats
import xarray as xr

from bayesjoint.reports import _read, _rows
from bayesjoint.reports._prediction import complete, of_draws

EXACT_CUT, SAMPLED_CUT = 1e-6, 0.1  # share of variance that the others take away
LARGEST = 50  # elements of a latent that is compared element by element


@dataclass(frozen=True)
class Moments:
    """Means and covariance of some parameters, by label."""

    labels: list[str]
    mean: np.ndarray
    covariance: np.ndarray

    def of(self, labels: list[str]) -> Moments:
        """Return those of some of the parameters."""
        index = [self.labels.index(label) for label in labels]
        return Moments(labels, self.mean[index], self.covariance[np.ix_(index, index)])


@dataclass(frozen=True)
class Shared:
    """Shared parameters in the joint fit, and of every modality in the fits apart.

    Labels of the fits apart are ``(modality, parameter)``.
    """

    joint: Moments
    apart: dict[tuple[str, str], int]
    mean: np.ndarray
    covariance: np.ndarray
    cut: float

    def held(self, modality: str) -> list[str]:
        """Return the shared parameters that a modality reaches."""
        return [label for name, label in self.apart if name == modality]

    def own(self, modality: str) -> Moments:
        """Return the moments of one modality."""
        labels = self.held(modality)
        index = [self.apart[modality, label] for label in labels]
        return Moments(labels, self.mean[index], self.covariance[np.ix_(index, index)])


def shared(joint: xr.DataTree, apart: dict[str, xr.DataTree], split: bool) -> Shared:
    """Collect shared parameters.

    Parameters
    ----------
    joint : DataTree
    apart : dict
        A tree for each modality; all the same one, of the split problem, when ``split``.
    split : bool
        Whether latents of one modality carry its name, ``depth__gnss``.
    """
    ds = _read.linearization(joint)
    own = {k: _own_names(ds, _read.linearization(tree), k, split) for k, tree in apart.items()}
    count = {name: sum(name in names for names in own.values()) for name in _read.latents(ds)}
    common = [name for name, holders in count.items() if holders > 1]
    sampled = all(_read.has_groups(tree, "posterior") for tree in (joint, *apart.values()))
    parts = [
        _moments(tree, {n: own[k][n] for n in common if n in own[k]}, sampled)
        for k, tree in apart.items()
    ]
    keys = [(k, label) for k, part in zip(apart, parts, strict=True) for label in part.labels]
    covariance = (
        _crossed(next(iter(apart.values())), own, common, sampled)
        if split
        else scipy.linalg.block_diag(*(part.covariance for part in parts))
    )
    return Shared(
        _moments(joint, {name: name for name in common}, sampled),
        {key: i for i, key in enumerate(keys)},
        np.concatenate([np.zeros(0), *(part.mean for part in parts)]),
        covariance.reshape(len(keys), len(keys)),
        SAMPLED_CUT if sampled else EXACT_CUT,
    )


def _own_names(joint: xr.Dataset, ds: xr.Dataset, modality: str, split: bool) -> dict[str, str]:
    """Return what a modality's fit calls the latents of the joint one that it reaches."""
    names = {name: f"{name}__{modality}" if split else name for name in _read.latents(joint)}
    return {name: own for name, own in names.items() if own in _read.latents(ds)}


def _crossed(
    tree: xr.DataTree, own: dict[str, dict[str, str]], common: list[str], sampled: bool
) -> np.ndarray:
    """Return the covariance of the copies of all modalities in one fit."""
    names = {f"{k}/{n}": own[k][n] for k in own for n in common if n in own[k]}
    return _moments(tree, names, sampled).covariance


def _moments(tree: xr.DataTree, names: dict[str, str], sampled: bool) -> Moments:
    """Return moments of the elements of latents, labelled after the keys of ``names``."""
    ds = _read.linearization(tree)
    chosen = [
        (row, row.label.replace(own, name, 1))
        for name, own in names.items()
        for row in _rows.rows_of(ds, own, LARGEST)
        if row.element and (sampled or row.scalar or complete(ds))
    ]
    rows, labels = [row for row, _ in chosen], [label for _, label in chosen]
    if not rows:
        return Moments([], np.zeros(0), np.zeros((0, 0)))
    mean, covariance = _of_draws(tree, ds, rows) if sampled else _of_gaussian(ds, rows)
    return Moments(labels, mean, covariance)


def _of_draws(tree: xr.DataTree, ds: xr.Dataset, rows: list[_rows.Row]):
    columns = []
    for row in rows:
        only = (_read.cells_of(ds, row.latent) == row.cells[0]).astype(float)
        columns.append(of_draws(tree, "posterior", {row.latent: only}))
    values = np.stack(columns)
    return values.mean(axis=1), np.cov(values).reshape(len(rows), len(rows))


def _of_gaussian(ds: xr.Dataset, rows: list[_rows.Row]):
    cells = np.concatenate([row.cells for row in rows])
    vectors, share = ds["physical_vectors"].values[cells], _read.shrinkage(ds).values
    if complete(ds):
        covariance = (vectors * _read.left(ds).values) @ vectors.T
    else:  # scalars, which are independent a priori
        covariance = -(vectors * share) @ vectors.T
        np.fill_diagonal(covariance, _read.variance_of_cells(ds).values[cells])
    return _read.value_of_cells(ds).values[cells], covariance


def updates(given: Shared, modalities: list[str]) -> xr.Dataset:
    """Return how the others move the parameters of each modality (Raveri & Hu's ``Q_DM``)."""
    labels = given.joint.labels
    shift = np.full((len(modalities), len(labels)), np.nan)
    tests = np.full((3, len(modalities)), np.nan)
    for i, name in enumerate(modalities):
        own = given.own(name)
        joint = given.joint.of(own.labels)
        moved, gained = own.mean - joint.mean, own.covariance - joint.covariance
        variance = np.diag(gained)
        told = variance > given.cut * np.diag(own.covariance)
        places = [labels.index(label) for label in own.labels]
        shift[i, places] = np.where(told, moved / np.sqrt(np.where(told, variance, 1.0)), np.nan)
        tests[:, i] = _update_test(moved, gained, own.covariance, given.cut)
    return xr.Dataset(
        {
            "shift": (("modality", "parameter"), shift),
            "q_dm": ("modality", tests[0]),
            "q_dm_d": ("modality", tests[1]),
            "q_dm_p_value": ("modality", tests[2]),
        },
        {"modality": modalities, "parameter": labels},
    )


def _update_test(moved: np.ndarray, gained: np.ndarray, own: np.ndarray, cut: float):
    """Return ``Q_DM``, its degrees of freedom and p-value, in directions that were updated."""
    if moved.size == 0:
        return np.nan, 0.0, np.nan
    share, vectors = scipy.linalg.eigh(gained, own)
    kept = share > cut
    if not kept.any():
        return np.nan, 0.0, np.nan
    q = float(np.sum((vectors[:, kept].T @ moved) ** 2 / share[kept]))
    return q, float(kept.sum()), float(scipy.stats.chi2.sf(q, kept.sum()))


def differences(given: Shared, modalities: list[str]) -> xr.Dataset:
    """Return values of each modality, and differences in units of their sd."""
    labels, count = given.joint.labels, len(modalities)
    value, sd = np.full((2, count, len(labels)), np.nan)
    between = np.full((count, count, len(labels)), np.nan)
    for j, label in enumerate(labels):
        places = [given.apart.get((name, label)) for name in modalities]
        for i, place in enumerate(places):
            if place is None:
                continue
            value[i, j], sd[i, j] = given.mean[place], np.sqrt(given.covariance[place, place])
            for other in [p for p in places if p is not None and p != place]:
                pair = given.covariance[np.ix_([place, other], [place, other])]
                spread = np.sqrt(pair[0, 0] + pair[1, 1] - 2.0 * pair[0, 1])
                gap = given.mean[place] - given.mean[other]
                between[i, places.index(other), j] = gap / spread
    dims = ("modality", "parameter")
    return xr.Dataset(
        {
            "value": (dims, value),
            "sd": (dims, sd),
            "value_joint": ("parameter", given.joint.mean),
            "sd_joint": ("parameter", np.sqrt(np.diag(given.joint.covariance))),
            "difference": (("modality", "modality_other", "parameter"), between),
        },
        {"modality": modalities, "modality_other": modalities, "parameter": labels},
    )
