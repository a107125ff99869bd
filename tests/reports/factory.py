"""A random linear Gaussian joint problem with every matrix at hand, and its tree."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import xarray as xr

DEPTH = np.array([50.0, 150.0, 300.0])
X = np.array([0.0, 100.0, 200.0, 400.0])
SIZES = {"density": 12, "depth_to_top": 1, "density_sd": 1}
UNITS = {"density": "kg/m3", "depth_to_top": "m", "density_sd": "kg/m3"}
LATENTS, HYPER = ["density", "depth_to_top"], ["density_sd"]
DIMS = {"gravity": "station", "arrivals": "ray"}


@dataclass(frozen=True)
class Dense:
    """The problem as plain matrices; everything in the tree follows from these."""

    jacobian: dict[str, np.ndarray]  # (data, unknown), noise of unit sd
    gamma: np.ndarray
    scale: np.ndarray  # L, square
    data: dict[str, np.ndarray]
    labels: np.ndarray = field(default_factory=lambda: np.repeat(list(SIZES), list(SIZES.values())))

    @property
    def size(self) -> int:
        return self.scale.shape[0]

    def h(self, *names: str) -> np.ndarray:
        chosen = names or tuple(self.jacobian)
        return sum(
            (self.jacobian[k].T @ self.jacobian[k] for k in chosen), np.zeros(self.gamma.shape)
        )

    @property
    def metric(self) -> np.ndarray:
        return np.eye(self.size) + self.gamma

    @property
    def posterior(self) -> np.ndarray:
        return np.linalg.inv(self.metric + self.h())

    @property
    def best(self) -> np.ndarray:
        gradient = sum(self.jacobian[k].T @ self.data[k] for k in self.jacobian)
        return self.posterior @ gradient

    @property
    def r_white(self) -> np.ndarray:
        return np.linalg.solve(self.metric + self.h(), self.h())

    @property
    def r_physical(self) -> np.ndarray:
        return self.scale @ self.r_white @ np.linalg.inv(self.scale)

    def gradient(self, point: np.ndarray) -> np.ndarray:
        """Of the log-likelihood."""
        return sum(
            ((self.data[k] - j @ point) @ j for k, j in self.jacobian.items()), np.zeros(self.size)
        )

    def at(self, latent: str) -> np.ndarray:
        return np.flatnonzero(self.labels == latent)

    def gain(self, *names: str) -> float:
        if not names:
            return 0.0
        return 0.5 * (
            np.linalg.slogdet(self.metric + self.h(*names))[1] - np.linalg.slogdet(self.metric)[1]
        )


def make(seed: int = 0, coupled: bool = False, strength: float = 0.7) -> Dense:
    random = np.random.default_rng(seed)
    field_scale = 40.0 * (np.eye(12) + 0.4 * random.standard_normal((12, 12)))
    scale = scipy.linalg.block_diag(field_scale, 25.0, 8.0)
    size = scale.shape[0]
    jacobian = {k: strength * random.standard_normal((9, size)) for k in DIMS}
    jacobian["gravity"][:, 12] = 0.0  # only arrivals see the scalar
    gamma = np.zeros((size, size))
    if coupled:
        root = random.standard_normal((5, 13))
        gamma[:13, :13] = 0.3 * root.T @ root
    truth = random.standard_normal(size)
    data = {k: j @ truth + random.standard_normal(len(j)) for k, j in jacobian.items()}
    return Dense(jacobian, gamma, scale, data)


def log_likelihood(dense: Dense, white: np.ndarray, *names: str) -> np.ndarray:
    """Of white points (..., unknown), all data or those of some modalities."""
    return sum(
        -0.5 * ((dense.data[k] - white @ j.T) ** 2 + np.log(2 * np.pi)).sum(axis=-1)
        for k, j in dense.jacobian.items()
        if not names or k in names
    )


def _precision_given_others(dense: Dense) -> np.ndarray:
    stacked = np.concatenate([*dense.jacobian.values()])
    covariance = np.eye(len(stacked)) + stacked @ np.linalg.inv(dense.metric) @ stacked.T
    return np.linalg.inv(covariance).diagonal()


def linearization(dense: Dense, point: np.ndarray | None = None, **attrs) -> xr.Dataset:
    values, vectors = scipy.linalg.eigh(dense.h(), dense.metric)
    values, vectors = values[::-1], vectors[:, ::-1]
    duals = dense.metric @ vectors
    point = dense.best if point is None else point
    names = list(dense.jacobian)
    rest = {k: [other for other in names if other != k] for k in names}
    prior = dense.scale @ np.linalg.inv(dense.metric) @ dense.scale.T
    ds = physical(dense, point).assign(
        eigenvalues=("mode", values),
        eigenvectors=(("unknown", "mode"), vectors),
        dual_vectors=(("unknown", "mode"), duals),
        physical_vectors=(("cell", "mode"), dense.scale @ vectors),
        physical_duals=(("cell", "mode"), np.linalg.solve(dense.scale.T, duals)),
        prior_sd=("cell", np.sqrt(prior.diagonal())),
        true_prior_sd=("cell", np.full(len(prior), np.nan)),
        mapped_cell=("mapped", np.zeros(0, dtype=int)),
        mapped_values=(("mapped", "node"), np.zeros((0, 3))),
        node=("node", [-1.0, 0.0, 1.0]),
        posterior_sd=(
            "cell",
            np.sqrt((dense.scale @ dense.posterior @ dense.scale.T).diagonal()),
        ),
        prior_precision_diagonal=("unknown", dense.metric.diagonal()),
        modality_information=(
            ("modality", "mode"),
            [np.einsum("ij,ik,kj->j", vectors, dense.h(k), vectors) for k in names],
        ),
        modality_factor=(
            ("modality", "row", "mode"),
            [dense.jacobian[k] @ vectors for k in names],
        ),
        chi2_slope=(
            ("modality", "mode"),
            [
                -(dense.data[k] - dense.jacobian[k] @ point) @ dense.jacobian[k] @ vectors
                for k in names
            ],
        ),
        data_rows=(("datum", "leading_mode"), np.concatenate([*dense.jacobian.values()]) @ vectors),
        precision_given_others=("datum", _precision_given_others(dense)),
        eig_alone=("modality", [dense.gain(k) for k in names]),
        eig_without=("modality", [dense.gain(*rest[k]) for k in names]),
        chi2=(
            "modality",
            [((dense.data[k] - dense.jacobian[k] @ point) ** 2).sum() for k in names],
        ),
        n_data=("modality", [len(dense.data[k]) for k in names]),
        prior_norm=("latent", [(point[dense.at(k)] ** 2).sum() for k in SIZES]),
        prior_distance=point @ dense.metric @ point,
        white_point=("unknown", point),
        log_posterior=0.0,
        log_likelihood=log_likelihood(dense, point),
        log_likelihood_slope=("mode", dense.gradient(point) @ vectors),
    )
    ds = ds.assign_coords(
        latent_of_unknown=("unknown", dense.labels),
        latent_of_cell=("cell", dense.labels),
        modality_of_datum=("datum", np.repeat(names, [len(dense.jacobian[k]) for k in names])),
        modality=names,
        latent=list(SIZES),
    )
    stated = {
        "latents": LATENTS,
        "hyperparameters": HYPER,
        "modalities": names,
        "couplings": ["cross_gradient"] if dense.gamma.any() else [],
        "errors": "independent",
        "coupled": int(dense.gamma.any()),
        "powers": [1.0] * len(names),
        "at": "map",
        "truncation_bound": 0.0,
        "local": int(dense.gamma.any()),
        "converged": 1,
    }
    return ds.assign_attrs(stated | attrs)


def physical(dense: Dense, white: np.ndarray) -> xr.Dataset:
    """Physical values of white points (..., unknown), leading dims chain and draw where given."""
    leading = {1: (), 3: ("chain", "draw")}[white.ndim]
    values = white @ dense.scale.T
    shape = white.shape[:-1]
    variables = {
        "density": ((*leading, "depth", "x"), values[..., :12].reshape(*shape, 3, 4)),
        "depth_to_top": (leading, values[..., 12] + 500.0),
        "density_sd": (leading, values[..., 13] + 100.0),
    }
    ds = xr.Dataset(variables, {"depth": DEPTH, "x": X})
    for name, stated in UNITS.items():
        ds[name].attrs["units"] = stated
    return ds


def tree(dense: Dense, draws: int = 400, seed: int = 1, **attrs) -> xr.DataTree:
    random = np.random.default_rng(seed)
    shape = (4, draws)
    posterior = random.multivariate_normal(dense.best, dense.posterior, shape, method="cholesky")
    prior = random.multivariate_normal(
        np.zeros(dense.size), np.linalg.inv(dense.metric), shape, method="cholesky"
    )
    dims = {k: ("chain", "draw", DIMS[k]) for k in dense.jacobian}
    means = {k: posterior @ j.T for k, j in dense.jacobian.items()}
    fresh = {k: mean + random.standard_normal(mean.shape) for k, mean in means.items()}
    observed = {k: ((DIMS[k],), values, {"units": "mGal"}) for k, values in dense.data.items()}
    responses = {f"{k}_response": (dims[k], mean) for k, mean in means.items()}
    noise = {f"{k}_noise_sd": ((DIMS[k],), np.ones_like(v)) for k, v in dense.data.items()}
    diverging = np.zeros(shape, dtype=bool)
    densities = {k: log_likelihood(dense, posterior, k) for k in dense.jacobian}
    densities["joint"] = log_likelihood(dense, posterior)
    groups = {
        "posterior": physical(dense, posterior).assign(responses),
        "sample_stats": xr.Dataset({"diverging": (("chain", "draw"), diverging)}),
        "posterior_predictive": xr.Dataset({k: (dims[k], v) for k, v in fresh.items()}),
        "log_likelihood_joint": xr.Dataset(
            {k: (("chain", "draw"), values) for k, values in densities.items()}
        ),
        "prior": physical(dense, prior),
        "observed_data": xr.Dataset(observed),
        "constant_data": xr.Dataset(noise),
        "linearization": linearization(dense, **attrs),
    }
    return xr.DataTree.from_dict(groups)


def at_points(denses: list[Dense], **attrs) -> xr.DataTree:
    """A tree linearized at several points, one problem each."""
    each = [linearization(dense, at="draws", **attrs) for dense in denses]
    # coordinates have no point dim, every variable does
    joined = xr.concat(each, dim="point", data_vars="all", coords="minimal", compat="override")
    return xr.DataTree.from_dict({"linearization": joined})


def preview(dense: Dense, **attrs) -> xr.DataTree:
    return xr.DataTree.from_dict({"linearization": linearization(dense, **attrs)})
