"""Two puzzles of errors and parameters: closed forms, and how often intervals hold the truth.

Run as a program it prints both studies of replicated data (two minutes on two cores)::

    python case_studies/discrepancy_puzzles.py
"""

from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import bayesjoint as bj

LEVEL = 0.95
KEPT = 2_000  # draws of theta for each replicate
TOGETHER = 100  # replicates that are weighted at a time
NODES = {"none": 1, "uninformative": 1_000, "constrained": 60_000}  # prior draws of the discrepancy


def load_model(name: str):
    """Return the module ``models/<name>.py``."""
    path = Path(__file__).resolve().parents[1] / "models" / f"{name}.py"
    spec = spec_from_file_location(f"{name}_model", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peelle = load_model("peelle")
machine = load_model("simple_machine")


# --- Peelle's puzzle -----------------------------------------------------------------------------


def covariance(relative_to: np.ndarray) -> np.ndarray:
    """Return the covariance of errors relative to some values, shape (..., datum, datum)."""
    relative_to = np.asarray(relative_to, dtype=float)
    relative = peelle.COMMON**2 + peelle.OWN**2 * np.eye(relative_to.shape[-1])
    return relative_to[..., :, None] * relative * relative_to[..., None, :]


def least_squares(data: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the generalised least-squares mean of data of one quantity, and its sd.

    Parameters
    ----------
    data : array, shape (..., datum)
    errors : array, shape (..., datum, datum)
        Their covariance.

    Examples
    --------
    >>> mean, sd = least_squares(np.array([1.5, 1.0]), covariance([1.5, 1.0]))
    >>> round(float(mean), 4), round(float(sd), 4)
    (0.8824, 0.2183)
    """
    weights = np.linalg.inv(errors).sum(axis=-1)
    return (weights * data).sum(axis=-1) / weights.sum(axis=-1), weights.sum(axis=-1) ** -0.5


def peelle_coverage(
    replicates: int = 200_000, theta: float = 1.2, seed: int = 1
) -> pd.DataFrame:  # fmt: skip
    """Return how the closed forms fare on replicated pairs of measurements of one quantity.

    The errors of the replicates are those of the puzzle: relative to the truth, and normal.

    Returns
    -------
    DataFrame
        For each kind of errors: ``bias`` of the estimate relative to the truth, how often it is
        ``outside`` the data, and how often its 95 % interval holds the truth (``covered``); then
        the same among pairs that differ by a factor of at least 1.5, as those of the puzzle.
    """
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((replicates, 1)), rng.standard_normal((replicates, 2))
    data = theta * (1 + peelle.COMMON * common) * (1 + peelle.OWN * own)
    data = data[(data > 0).all(axis=1)]  # one in a million is not
    mean = np.broadcast_to(data.mean(axis=1, keepdims=True), data.shape)
    estimates = {
        "additive_from_data": least_squares(data, covariance(data)),
        "additive_from_model": least_squares(data, covariance(mean)),
        "lognormal": least_squares(np.log(data), covariance(np.ones(2))),
    }
    half = stats.norm.ppf((1 + LEVEL) / 2)
    apart = data.max(axis=1) >= 1.5 * data.min(axis=1)
    rows = {}
    for name, (estimate, sd) in estimates.items():
        target = np.log(theta) if name == "lognormal" else theta
        inside = np.abs(estimate - target) < half * sd
        value = np.exp(estimate) if name == "lognormal" else estimate
        outside = (value < data.min(axis=1)) | (value > data.max(axis=1))
        rows[name] = {
            f"{label}{kind}": part.mean()
            for kind, which in (("", slice(None)), (", far apart", apart))
            for label, part in (
                ("bias", value[which] / theta - 1),
                ("outside", outside[which]),
                ("covered", inside[which]),
            )
        }
    return pd.DataFrame(rows).T


# --- simple machine ------------------------------------------------------------------------------


def prior_of_discrepancy(kind: str, seed: int = 1) -> xr.Dataset:
    """Return draws of what the discrepancy of the simple machine depends on, dim ``node``."""
    if kind == "none":
        return xr.Dataset(coords={"node": [0]})
    problem = machine.problem(discrepancy=kind)
    tree = bj.sample(
        problem, draws=10, tune=50, chains=1, random_seed=seed, prior_draws=NODES[kind],
        progress=False,
    )  # fmt: skip
    return tree["prior"].to_dataset().stack(node=("chain", "draw"))


def theta_draws(
    data: np.ndarray, effort: np.ndarray, kind: str, nodes: xr.Dataset, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of theta from its posterior for every replicate, without a Markov chain.

    Parameters
    ----------
    data : array, shape (replicate, effort)
    effort : array, shape (effort,)
    kind : str
        The discrepancy.
    nodes : Dataset
        From `prior_of_discrepancy`.
    seed : int

    Returns
    -------
    draws : array, shape (replicate, draw)
    effective : array, shape (replicate,)
        Effective number of nodes.

    Notes
    -----
    Given what the discrepancy depends on, theta is Gaussian and the evidence has a closed form:
    nodes drawn from the prior are weighted with it (importance sampling, whose error falls with
    the effective number of nodes).
    """
    rng = np.random.default_rng(seed)
    parts = [
        _weighted_draws(part, effort, kind, nodes, rng)
        for part in np.array_split(data, -(-len(data) // TOGETHER))
    ]
    draws, effective = zip(*parts, strict=True)
    return np.concatenate(draws), np.concatenate(effective)


def _weighted_draws(data: np.ndarray, effort: np.ndarray, kind: str, nodes: xr.Dataset, rng):
    prior = machine.PRIORS["theta"].parameters
    residual = data - prior["mu"] * effort
    precision, information, log_weight = (
        _constrained if kind == "constrained" else _gaussian
    )(residual, effort, nodes)  # fmt: skip
    precision = precision[:, None] + prior["sigma"] ** -2
    log_weight = log_weight + 0.5 * (information**2 / precision - np.log(precision))
    weight = np.exp(log_weight - log_weight.max(axis=0))
    weight /= weight.sum(axis=0)
    mean = prior["mu"] + information / precision
    draws = np.empty((len(data), KEPT))
    for replicate, cumulative in enumerate(np.cumsum(weight, axis=0).T):
        node = np.searchsorted(cumulative, rng.random(KEPT) * cumulative[-1])
        scatter = rng.standard_normal(KEPT) / np.sqrt(precision[node, 0])
        draws[replicate] = mean[node, replicate] + scatter
    return draws, 1.0 / (weight**2).sum(axis=0)


def _constrained(residual: np.ndarray, effort: np.ndarray, nodes: xr.Dataset):
    """Precision, information on theta and log-density without theta, each (node, replicate)."""
    bend = nodes["bend"].transpose("node", ...).values
    losses = np.exp(bend) @ machine.loss_weights(effort).T / machine.NOISE  # (node, effort)
    white, slope = residual / machine.NOISE, effort / machine.NOISE
    information = (losses @ slope)[:, None] + white @ slope
    cross = losses @ white.T
    squared = (losses**2).sum(axis=1)[:, None] + 2 * cross + (white**2).sum(axis=1)
    return np.full(len(bend), slope @ slope), information, -0.5 * squared


def _gaussian(residual: np.ndarray, effort: np.ndarray, nodes: xr.Dataset):
    """Do the same where the discrepancy is a Gaussian process, or none."""
    rows, noise = [], machine.NOISE**2 * np.eye(effort.size)
    distance, nothing = np.abs(effort[:, None] - effort), np.zeros(nodes.sizes["node"])
    sds, lengths = nothing, nothing + 1.0
    if "discrepancy_sd" in nodes:
        sds, lengths = nodes["discrepancy_sd"].values, nodes["discrepancy_length_scale"].values
    for sd, length in zip(sds, lengths, strict=True):
        errors = noise + sd**2 * machine.matern(distance / length)
        factor = np.linalg.cholesky(errors)
        white = np.linalg.solve(factor, np.column_stack([effort, residual.T]))
        slope, white = white[:, 0], white[:, 1:]
        alone = -0.5 * (white**2).sum(axis=0) - np.log(np.diag(factor)).sum()
        rows.append((slope @ slope, slope @ white, alone))
    return tuple(np.array(part) for part in zip(*rows, strict=True))


def machine_coverage(
    counts=(11, 30, 60), replicates: int = 200, seed: int = 1
) -> pd.DataFrame:  # fmt: skip
    """Return 95 % intervals of theta over replicated data, for each discrepancy and number of data.

    Returns
    -------
    DataFrame
        Rows (discrepancy, count): means over replicates of ``median``, ``lower`` and ``upper`` end,
        the share ``covered`` of intervals that hold the true theta, and the smallest ``effective``
        number of nodes.
    """
    rng, rows = np.random.default_rng(seed), {}
    nodes = {kind: prior_of_discrepancy(kind) for kind in machine.DISCREPANCIES}
    for count in counts:
        effort = np.linspace(*machine.EFFORTS, count)
        noise = machine.NOISE * rng.standard_normal((replicates, count))
        data = machine.true_work(effort) + noise
        for kind in machine.DISCREPANCIES:
            draws, effective = theta_draws(data, effort, kind, nodes[kind])
            ends = np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=1)
            inside = (ends[0] < machine.THETA) & (machine.THETA < ends[2])
            means = dict(zip(("lower", "median", "upper"), ends.mean(axis=1), strict=True))
            rows[kind, count] = {**means, "covered": inside.mean(), "effective": effective.min()}
    table = pd.DataFrame(rows).T
    return table.rename_axis(["discrepancy", "count"]).sort_index(level=1, sort_remaining=False)


def summary_of(draws: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return mean, sd and 95 % interval of some draws, one row a name."""
    return pd.DataFrame(
        {
            name: {
                "mean": np.mean(values), "sd": np.std(values),
                "2.5 %": np.quantile(values, 0.025), "97.5 %": np.quantile(values, 0.975),
            }
            for name, values in draws.items()
        }
    ).T  # fmt: skip


if __name__ == "__main__":
    print(peelle_coverage().round(3), machine_coverage().round(3), sep="\n\n")
