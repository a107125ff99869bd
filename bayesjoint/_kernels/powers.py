"""Powers of several likelihoods at which each supplies as many degrees of freedom."""

import numpy as np

STEPS, LONGEST = 100, 3.0  # of Newton's method, and its longest step in log power
ACCURACY = 1e-9  # relative, of the degrees of freedom


def equal_powers(blocks: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the powers, the largest of them 1, and the degrees of freedom that each then has.

    Parameters
    ----------
    blocks : ndarray, shape (k, m, m)
        Information B_k of each likelihood on unknowns of unit prior variance, none of it zero.

    Returns
    -------
    ndarray, shape (k,)
    float

    Raises
    ------
    RuntimeError
        When Newton's method does not converge.

    Notes
    -----
    Solves ``tr((I + sum_j w_j B_j)^-1 w_k B_k) = d`` for all k with ``max w = 1``.  The matrix of
    derivatives to ``log w`` is diagonally dominant with negative elements off its diagonal: the
    powers grow together with d, so that there is one solution.
    """
    kept = np.einsum("kii->i", blocks)
    kept = np.flatnonzero(kept > 1e-12 * kept.max())
    blocks = blocks[:, kept[:, None], kept]
    held = int(np.argmin(_dofs(np.zeros(len(blocks)), blocks)[0]))
    for _ in blocks:
        log_powers, dofs = _solve(blocks, held)
        if np.max(log_powers) <= 1e-9:
            break
        held = int(np.argmax(log_powers))  # it reaches 1 at fewer degrees of freedom
    return np.exp(np.minimum(log_powers, 0.0)), dofs


def _dofs(log_powers: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the degrees of freedom of each likelihood, and their derivatives."""
    raised = np.exp(log_powers)[:, None, None] * blocks
    solved = np.linalg.solve(np.eye(blocks.shape[1]) + raised.sum(axis=0), raised)
    dofs = np.einsum("kii->k", solved)
    return dofs, np.diag(dofs) - np.einsum("kij,lji->kl", solved, solved, optimize=True)


def _solve(blocks: np.ndarray, held: int) -> tuple[np.ndarray, float]:
    """Return log powers, that of one likelihood held at zero, by Newton's method."""
    free = np.delete(np.arange(len(blocks)), held)
    log_powers = np.zeros(len(blocks))
    for _ in range(STEPS):
        dofs, slopes = _dofs(log_powers, blocks)
        gap = np.log(dofs[free] / dofs[held])
        if np.max(np.abs(gap), initial=0.0) < ACCURACY:
            return log_powers, float(dofs[held])
        relative = slopes / dofs[:, None]
        step = np.linalg.solve((relative[free] - relative[held])[:, free], -gap)
        log_powers[free] += np.clip(step, -LONGEST, LONGEST)
    raise RuntimeError("balance: the powers were not found; please report it, with the problem")
