"""Repeated experiments that are analysed by sampling, whatever noise, couplings and priors."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import norm

from bayesjoint.problem import JointProblem
from bayesjoint.sampling import sample
from bayesjoint.simulation import simulate
from bayesjoint.studies._local_problem import Row
from bayesjoint.studies._replicates import Outcome


@dataclass(frozen=True, eq=False)
class Sampled:
    """How replicates are analysed.

    Attributes
    ----------
    rows : sequence of Row
        Parameters that are compared.
    seeds : sequence of SeedSequence
        One a replicate: its data and draws, whatever the errors, follow from it.
    probability : float
        Of the equal-tailed intervals.
    settings : mapping
        Arguments of `sample`.
    executor : Executor, optional
        Runs the replicates.
    """

    rows: Sequence[Row]
    seeds: Sequence[np.random.SeedSequence]
    probability: float
    settings: Mapping[str, Any]
    executor: Executor | None

    def outcomes(self, truth: JointProblem, model: JointProblem) -> Iterable[Outcome]:
        """Return the outcome of each parameter; the sd is that of a Gaussian interval as wide."""
        import cloudpickle

        common = (truth, model, list(self.rows), self.probability, dict(self.settings))
        pickled = cloudpickle.dumps(common)
        tasks = [(pickled, seed) for seed in self.seeds]
        run = map if self.executor is None else self.executor.map
        for parts in zip(*run(replicate, tasks), strict=True):
            yield Outcome(*(np.stack(column) for column in zip(*parts, strict=True)))


@lru_cache(maxsize=1)
def _common(pickled: bytes) -> tuple:
    """Return what all experiments have, of a worker one and the same, so that it compiles once."""
    return pickle.loads(pickled)


def replicate(
    task: tuple[bytes, np.random.SeedSequence],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return error, sd and deviation of each parameter in one experiment.

    The deviation is the normal score of the truth among the draws, so that the interval holds it
    where the score is within that of the interval.
    """
    pickled, seed = task
    truth, model, rows, probability, settings = _common(pickled)
    of_data, of_draws = map(int, seed.generate_state(2))
    simulated = simulate(truth, random_seed=of_data)
    problem = model.with_data(simulated[list(truth.modality)])
    settings = {"progress": False, "random_seed": of_draws, **settings}
    posterior = sample(problem, **settings)["posterior"].to_dataset()
    tails, found = np.array([1.0 - probability, 1.0 + probability]) / 2.0, []
    for row in rows:
        draws = posterior[row.latent].values
        draws = draws.reshape(draws.shape[0] * draws.shape[1], -1)[:, row.cells]
        true = np.ravel(simulated[row.latent].values)[row.cells]
        share = (np.sum(draws < true, axis=0) + 0.5) / (len(draws) + 1.0)
        sd = np.ptp(np.quantile(draws, tails, axis=0), axis=0) / (2.0 * norm.ppf(tails[1]))
        found.append((draws.mean(axis=0) - true, sd, norm.ppf(share)))
    return found
