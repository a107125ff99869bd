"""A small joint problem with a known posterior, to try the reports on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special
import xarray as xr

X = np.array([100.0, 200.0, 300.0, 400.0])
DEPTH = np.array([100.0, 200.0, 300.0])
SIZES = {"density": X.size * DEPTH.size, "gain": 1}
UNITS = {"density": "kg/m3", "gain": "1"}
NUMBER_OF_DATA = {"gravity": 8, "arrivals": 10}


def example_tree(
    modalities: Sequence[str] = ("gravity", "arrivals"),
    draws: int = 200,
    seed: int = 0,
    discrepancy: float = 0.0,
) -> xr.DataTree:
    """Return the tree of a linear Gaussian problem of two modalities, drawn from its closed form.

    Parameters
    ----------
    modalities : sequence of str
        ``"gravity"``, ``"arrivals"`` or both; both see one field ``density`` (depth, x) in kg/m3
        and one number ``gain``.
    draws : int
        Draws per chain, two chains, independent.
    seed : int
        Of the draws; the problem itself is always the same.
    discrepancy : float
        Share of the variance of each error of ``"gravity"`` that is taken for one of the physics;
        above 0 it is drawn given the data.

    Returns
    -------
    xarray.DataTree
        Groups ``linearization``, ``posterior``, ``posterior_predictive``, ``prior``,
        ``observed_data``, ``constant_data``, as ``bj.sample`` makes them.

    Raises
    ------
    KeyError
        For another modality.

    Examples
    --------
    >>> from bayesjoint.reports.example import example_tree
    >>> list(example_tree().children)[:2]
    ['linearization', 'posterior']
    """
    matrices, data = _problem()
    white = np.concatenate([matrices[k] for k in modalities])  # (datum, unknown), unit noise
    information = white.T @ white
    covariance = np.linalg.inv(np.eye(len(information)) + information)
    best = covariance @ white.T @ np.concatenate([data[k] for k in modalities])
    random = np.random.default_rng(seed)
    posterior = random.multivariate_normal(best, covariance, (2, draws), method="cholesky")
    return xr.DataTree.from_dict(
        {
            "linearization": _linearization({k: matrices[k] for k in modalities}, data, best),
            "posterior": xr.merge(
                [
                    _physical(posterior),
                    *(_response(k, matrices[k], posterior) for k in modalities),
                    *_discrepancy(discrepancy, matrices, data, posterior, random),
                ]
            ),
            "posterior_predictive": _predictive(matrices, modalities, posterior, random),
            "log_likelihood_joint": xr.Dataset(
                {
                    name: (
                        ("chain", "draw"),
                        _log_likelihood({k: matrices[k] for k in kept}, data, posterior),
                    )
                    for name, kept in {**{k: [k] for k in modalities}, "joint": modalities}.items()
                }
            ),
            **_pointwise(matrices, modalities, data, posterior),
            "prior": _physical(random.standard_normal(posterior.shape)),
            "observed_data": xr.Dataset({k: (_dim(k), data[k]) for k in modalities}),
            "constant_data": xr.Dataset(
                {f"{k}_noise_sd": (_dim(k), np.ones_like(data[k])) for k in modalities}
            ),
        }
    )


def example_fields(alike: float = 0.8, draws: int = 60, seed: int = 0) -> xr.DataTree:
    """Return draws of two fields on one grid, ``density`` and ``slowness``, on dims (depth, x).

    Parameters
    ----------
    alike : float
        Correlation of the two fields in the posterior; the prior has none.
    draws : int
        Draws in each of two chains.
    seed : int

    Returns
    -------
    xarray.DataTree
        Groups ``posterior`` and ``prior``.

    Examples
    --------
    >>> from bayesjoint.reports.example import example_fields
    >>> list(example_fields()["posterior"].data_vars)
    ['density', 'slowness']
    """
    random, depth, x = (
        np.random.default_rng(seed),
        np.arange(50.0, 650, 50),
        np.arange(0.0, 800, 50),
    )
    smooth = (
        np.exp(-(((x[:, None] - x) / 150.0) ** 2)),
        np.exp(-(((depth[:, None] - depth) / 150.0) ** 2)),
    )

    def group(alike: float) -> xr.Dataset:
        first, second = (
            smooth[1] @ random.standard_normal((2, draws, depth.size, x.size)) @ smooth[0]
            for _ in range(2)
        )
        second = alike * first + np.sqrt(1 - alike**2) * second
        dims = ("chain", "draw", "depth", "x")
        values = {"density": (dims, 60.0 * first, {"units": "kg/m3"}),
                  "slowness": (dims, 2.5e-4 + 1e-5 * second, {"units": "s/m"})}  # fmt: skip
        axes = {"depth": ("depth", depth, {"units": "m"}), "x": ("x", x, {"units": "m"})}
        return xr.Dataset(values, axes)

    return xr.DataTree.from_dict({"posterior": group(alike), "prior": group(0.0)})


def _scale() -> np.ndarray:
    """Square root of the prior covariance: a smooth field of 100 kg/m3, a gain of 0.1."""
    depth, x = np.meshgrid(DEPTH, X, indexing="ij")
    distance = np.hypot(depth.ravel()[:, None] - depth.ravel(), x.ravel()[:, None] - x.ravel())
    field = np.linalg.cholesky(100.0**2 * np.exp(-distance / 200.0))
    return scipy.linalg.block_diag(field, 0.1)


def _problem() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(42)
    truth = random.standard_normal(sum(SIZES.values()))
    matrices = {k: 0.6 * random.standard_normal((n, truth.size)) for k, n in NUMBER_OF_DATA.items()}
    data = {k: m @ truth + random.standard_normal(len(m)) for k, m in matrices.items()}
    return matrices, data


def _dim(modality: str) -> str:
    return {"gravity": "station", "arrivals": "ray"}[modality]


def _physical(white: np.ndarray) -> xr.Dataset:
    """Physical draws of white ones (chain, draw, unknown)."""
    values = white @ _scale().T
    field = values[..., :-1].reshape(*white.shape[:2], DEPTH.size, X.size)
    dims = ("chain", "draw")
    return xr.Dataset(
        {
            "density": ((*dims, "depth", "x"), field, {"units": UNITS["density"]}),
            "gain": (dims, values[..., -1] + 1.0, {"units": UNITS["gain"]}),
        },
        {"chain": range(white.shape[0]), "draw": range(white.shape[1]), **_grid()},
    )


def _grid() -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    return {"depth": ("depth", DEPTH, {"units": "m"}), "x": ("x", X, {"units": "m"})}


def _response(modality: str, matrix: np.ndarray, white: np.ndarray) -> xr.Dataset:
    dims = ("chain", "draw", _dim(modality))
    return xr.Dataset({f"{modality}_response": (dims, white @ matrix.T)})


def _discrepancy(
    share: float,
    matrices: dict[str, np.ndarray],
    data: dict[str, np.ndarray],
    white: np.ndarray,
    random: np.random.Generator,
) -> list[xr.Dataset]:
    """Return draws of the discrepancy of gravity given data and draws of all unknowns."""
    if share == 0.0:
        return []
    gap = data["gravity"] - white @ matrices["gravity"].T  # of unit variance
    noise = np.sqrt(share * (1.0 - share)) * random.standard_normal(gap.shape)
    dims = ("chain", "draw", _dim("gravity"))
    return [xr.Dataset({"gravity_discrepancy": (dims, share * gap + noise)})]


def _predictive(
    matrices: dict[str, np.ndarray],
    modalities: Sequence[str],
    white: np.ndarray,
    random: np.random.Generator,
) -> xr.Dataset:
    responses = {k: white @ matrices[k].T for k in modalities}
    return xr.Dataset(
        {
            k: (("chain", "draw", _dim(k)), mean + random.standard_normal(mean.shape))
            for k, mean in responses.items()
        }
    )


def _pointwise(
    matrices: dict[str, np.ndarray],
    modalities: Sequence[str],
    data: dict[str, np.ndarray],
    white: np.ndarray,
) -> dict[str, xr.Dataset]:
    """Return log-density and distribution function of each datum, for leave-one-out."""
    gaps = {k: data[k] - white @ matrices[k].T for k in modalities}
    dims = {k: ("chain", "draw", _dim(k)) for k in modalities}
    return {
        "log_likelihood": xr.Dataset(
            {k: (dims[k], -0.5 * (gap**2 + np.log(2.0 * np.pi))) for k, gap in gaps.items()}
        ),
        "predictive_cdf": xr.Dataset(
            {k: (dims[k], scipy.special.ndtr(gap)) for k, gap in gaps.items()}
        ),
    }


def _gain_in_nats(matrices: list[np.ndarray]) -> float:
    size = sum(SIZES.values())
    return 0.5 * np.linalg.slogdet(np.eye(size) + sum(m.T @ m for m in matrices))[1]


def _linearization(
    matrices: dict[str, np.ndarray], data: dict[str, np.ndarray], best: np.ndarray
) -> xr.Dataset:
    names, stacked, scale = list(matrices), np.concatenate(list(matrices.values())), _scale()
    values, vectors = np.linalg.eigh(stacked.T @ stacked)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    labels = np.repeat(list(SIZES), list(SIZES.values()))
    physical = _physical(best[None, None]).isel(chain=0, draw=0, drop=True)
    hat = stacked @ np.linalg.solve(np.eye(best.size) + stacked.T @ stacked, stacked.T)
    return (
        physical.assign(
            eigenvalues=("mode", values),
            eigenvectors=(("unknown", "mode"), vectors),
            dual_vectors=(("unknown", "mode"), vectors),
            physical_vectors=(("cell", "mode"), scale @ vectors),
            physical_duals=(("cell", "mode"), np.linalg.solve(scale.T, vectors)),
            prior_sd=("cell", np.linalg.norm(scale, axis=1)),
            true_prior_sd=("cell", np.full(len(scale), np.nan)),
            mapped_cell=("mapped", np.zeros(0, dtype=int)),
            mapped_values=(("mapped", "node"), np.zeros((0, 3))),
            node=("node", [-1.0, 0.0, 1.0]),
            posterior_sd=("cell", np.linalg.norm(scale @ vectors / np.sqrt(1.0 + values), axis=1)),
            prior_precision_diagonal=("unknown", np.ones(best.size)),
            prior_norm=("latent", [float((best[labels == name] ** 2).sum()) for name in SIZES]),
            prior_distance=float(best @ best),
            data_importance=("datum", hat.diagonal()),
            data_rows=(("datum", "leading_mode"), stacked @ vectors),
            precision_given_others=("datum", 1.0 - hat.diagonal()),
            white_point=("unknown", best),
            log_posterior=_log_posterior(matrices, data, best),
            log_likelihood=_log_likelihood(matrices, data, best),
            log_likelihood_slope=("mode", best @ vectors),  # the prior pulls as much at the best
            **_of_modalities(matrices, data, best, vectors),
        )
        .assign_coords(
            latent_of_unknown=("unknown", labels),
            latent_of_cell=("cell", labels),
            modality_of_datum=("datum", np.repeat(names, [len(m) for m in matrices.values()])),
            modality=names,
            latent=list(SIZES),
        )
        .assign_attrs(_attrs(names))
    )


def _of_modalities(
    matrices: dict[str, np.ndarray],
    data: dict[str, np.ndarray],
    best: np.ndarray,
    vectors: np.ndarray,
) -> dict[str, Any]:
    """Return what each modality tells, and how its misfit changes."""
    names = list(matrices)
    others = {k: [m for other, m in matrices.items() if other != k] for k in names}
    return {
        "modality_information": (
            ("modality", "mode"),
            np.stack([((m @ vectors) ** 2).sum(axis=0) for m in matrices.values()]),
        ),
        "modality_factor": (
            ("modality", "row", "mode"),
            _stacked([m @ vectors for m in matrices.values()]),
        ),
        "chi2_slope": (
            ("modality", "mode"),
            np.stack([-(data[k] - m @ best) @ m @ vectors for k, m in matrices.items()]),
        ),
        "eig_alone": ("modality", [_gain_in_nats([m]) for m in matrices.values()]),
        "eig_without": (
            "modality",
            [_gain_in_nats(others[k]) if others[k] else 0.0 for k in names],
        ),
        "chi2": ("modality", [float(((data[k] - matrices[k] @ best) ** 2).sum()) for k in names]),
        "n_data": ("modality", [len(matrices[k]) for k in names]),
    }


def _stacked(matrices: list[np.ndarray]) -> np.ndarray:
    """Stack matrices along a new first axis, rows of zeros below the shorter ones."""
    height = max(len(matrix) for matrix in matrices)
    return np.stack([np.pad(m, ((0, height - len(m)), (0, 0))) for m in matrices])


def _log_likelihood(
    matrices: dict[str, np.ndarray], data: dict[str, np.ndarray], white: np.ndarray
) -> Any:
    """Return the log-likelihood of white points (..., unknown)."""
    parts = [
        -0.5 * ((data[k] - white @ m.T) ** 2 + np.log(2.0 * np.pi)).sum(axis=-1)
        for k, m in matrices.items()
    ]
    return sum(parts[1:], start=parts[0])


def _log_posterior(
    matrices: dict[str, np.ndarray], data: dict[str, np.ndarray], best: np.ndarray
) -> float:
    prior = -0.5 * (best**2 + np.log(2.0 * np.pi)).sum()
    return float(_log_likelihood(matrices, data, best) + prior)


def _attrs(names: list[str]) -> dict[str, object]:
    return {
        "latents": list(SIZES),
        "hyperparameters": [],
        "modalities": names,
        "couplings": [],
        "errors": "independent",
        "coupled": 0,
        "powers": [1.0] * len(names),
        "noise_scales": ["known"] * len(names),
        "at": "map",
        "truncation_bound": 0.0,
        "local": 0,
        "converged": 1,
    }
