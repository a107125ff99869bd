"""Suspiciousness of simulated data, joint and split problem fitted to each data set anew."""

import pickle
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import xarray as xr

from bayesjoint._compiled.densities import log_likelihood_at
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import threads_for
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.coupled_prior import coupled_prior
from bayesjoint._local.curvature import Curvature, curvature
from bayesjoint._local.informed import Informed
from bayesjoint._local.mode import maximum_a_posteriori
from bayesjoint.linearization import THRESHOLD
from bayesjoint.problem import JointProblem


class NotFitted(RuntimeError):
    """A fit to simulated data that did not reach a maximum."""


class Fit:
    """One problem, compiled once and fitted to one data set after the other."""

    def __init__(self, problem: JointProblem) -> None:
        self.functions = ModelFunctions(problem)
        self.space = self.functions.once(LatentSpace)

    def explained(self, data: xr.Dataset, first: np.ndarray, starts: int) -> float:
        """Return the mean log-likelihood over the Gaussian at the maximum, as `bj.tension` does."""
        self.functions.observe(self.functions.whole.with_data(data))
        mode = maximum_a_posteriori(self.functions, starts, first)
        if not mode.converged:
            raise NotFitted("the search for the maximum did not converge")
        actions, scaling = LocalActions(self.functions, mode.point), self.space.scaling(mode.point)
        prior = coupled_prior(actions, scaling)
        values = Informed(actions, scaling, prior, THRESHOLD).spectrum.values
        best = log_likelihood_at(self.functions, mode.point)
        return best - 0.5 * float(np.sum(values / (1.0 + values)))


@dataclass(frozen=True, eq=False)
class Task:
    """What all replicates have in common.

    Attributes
    ----------
    problem : JointProblem
    point : ndarray, shape (n,)
        Its fit, in flat coordinates.
    starts : int
        Of each search for the maximum.
    """

    problem: JointProblem
    point: np.ndarray
    starts: int


@dataclass(frozen=True, eq=False)
class Refits:
    """Joint and split problem, compiled, and the fit from which data are simulated.

    Attributes
    ----------
    joint, split : Fit
    evaluator : DrawEvaluator
        Of the joint problem.
    point : ndarray, shape (n,)
        The fit.
    spread : Curvature
        Of the posterior there.
    starts : int
        Of each search for the maximum.
    """

    joint: Fit
    split: Fit
    evaluator: DrawEvaluator
    point: np.ndarray
    spread: Curvature
    starts: int

    @classmethod
    def of(cls, task: Task) -> "Refits":
        """Compile what all replicates of a task need."""
        joint, split = Fit(task.problem), Fit(task.problem.split())
        evaluator = joint.functions.once(DrawEvaluator)
        spread = curvature(joint.functions, task.point)
        return cls(joint, split, evaluator, task.point, spread, task.starts)

    def at(self, point: np.ndarray) -> "Refits":
        """Return the same at another fit, without compiling."""
        return replace(self, point=point, spread=curvature(self.joint.functions, point))

    def ln_suspiciousness(self, seed: np.random.SeedSequence) -> float:
        """Return ln S of one simulated data set."""
        truth, data = self.simulated(seed)
        apart = same_point(self.split.space, self.joint.space, truth)
        together = self.joint.explained(data, truth, self.starts)
        found = together - self.split.explained(data, apart, self.starts)
        if not np.isfinite(found):
            raise NotFitted("the likelihood is not finite")
        return found

    def simulated(self, seed: np.random.SeedSequence) -> tuple[np.ndarray, xr.Dataset]:
        """Return a draw of the Gaussian at the fit, all unknowns, and data simulated from it."""
        rng = np.random.default_rng(seed)
        truth = self.point + self.spread.scale(rng.standard_normal(self.point.size))
        drawn = self.evaluator.table(truth[None, None]).simulated(rng)
        return truth, drawn.isel(chain=0, draw=0, drop=True)


def refitted(
    task: Task, replicates: int, random_seed: int | None, executor: Executor | None
) -> tuple[np.ndarray, list[str]]:
    """Return ln S of simulated data sets, NaN where a fit failed, and why it did."""
    import cloudpickle

    seeds = np.random.SeedSequence(random_seed).spawn(replicates)
    common = cloudpickle.dumps(task)
    run = map if executor is None else executor.map
    try:
        found = list(run(_replicate, [common] * replicates, seeds))
    finally:
        _compiled.cache_clear()
    return np.array([value for value, _ in found]), [reason for _, reason in found]


def _replicate(common: bytes, seed: np.random.SeedSequence) -> tuple[float, str]:
    refits = _compiled(common)
    functions = refits.split.functions
    try:
        with threads_for(functions.size + functions.rank):
            return refits.ln_suspiciousness(seed), ""
    except (NotFitted, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        return np.nan, f"{type(error).__name__}: {error}"


@lru_cache(maxsize=1)
def _compiled(common: bytes) -> Refits:
    """Return the problems of a task; a worker compiles them once for all its replicates."""
    return Refits.of(pickle.loads(common))


def same_point(apart: LatentSpace, joint: LatentSpace, point: np.ndarray) -> np.ndarray:
    """Return where all copies of the split problem are as in the joint one."""
    values = dict(zip(joint.names, joint.values(point), strict=True))
    # The longest first: one modality may be named like the beginning of another.
    endings = sorted((f"__{name}" for name in apart.functions.data_slices), key=len, reverse=True)
    return apart.point_of_values({n: values[_original(n, endings)] for n in apart.names})


def _original(name: str, endings: list[str]) -> str:
    """Return what an unknown of the split problem is called in the joint one."""
    for ending in endings:
        name = name.replace(ending, "")
    return name
