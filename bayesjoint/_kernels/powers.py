"""Powers of several likelihoods at which each supplies as many degrees of freedom."""

import numpy as np

STEPS, LONGEST = 200, 1.5  # of Newton's method, and its longest step in log power
FIRST = 0.1  # degrees of freedom of each likelihood, nearly, from which the powers grow
ACCURACY = 1e-9  # relative, of the degrees of freedom and of the powers; rounding allowing


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
    Solves ``tr((I + sum_j w_j B_j)^-1 w_k B_k) = d`` for all k with ``max w = 1``.  In
    ``u = log w`` the left sides are the gradient of ``log det(I + sum_j exp(u_j) B_j)``, which is
    convex: given ``sum u`` one u makes them equal.  Its Hessian is diagonally dominant with
    negative elements off the diagonal, so that all powers grow together with d, and one of the
    solutions has ``max w = 1``.  Newton's method walks along this curve, up from small powers.
    """
    kept = np.einsum("kii->i", blocks)
    kept = np.flatnonzero(kept > 1e-12 * kept.max())
    blocks = blocks[:, kept[:, None], kept]
    log_powers = np.log(FIRST) - np.log(np.einsum("kii->k", blocks))
    log_powers -= max(log_powers.max(), 0.0)
    for _ in range(STEPS):
        dofs, slopes = _dofs(log_powers, blocks)
        uneven = np.log(dofs.max() / dofs.min())
        rounding = np.finfo(float).eps * (np.exp(log_powers) @ np.einsum("kii->k", blocks))
        if max(uneven, abs(log_powers.max())) < max(ACCURACY, 10.0 * rounding):
            return np.exp(log_powers - log_powers.max()), float(dofs.mean())
        step = _step(log_powers, dofs, slopes)
        log_powers += step * min(1.0, LONGEST / np.abs(step).max())
    raise RuntimeError("balance: the powers were not found; please report it, with the problem")


def _dofs(log_powers: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the degrees of freedom of each likelihood, and their derivatives."""
    raised = np.exp(log_powers)[:, None, None] * blocks
    solved = np.linalg.solve(np.eye(blocks.shape[1]) + raised.sum(axis=0), raised)
    dofs = np.einsum("kii->k", solved)
    return dofs, np.diag(dofs) - np.einsum("kij,lji->kl", solved, solved, optimize=True)


def _step(log_powers: np.ndarray, dofs: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return Newton's step to equal degrees of freedom at which the largest power is 1."""
    bordered = np.pad(slopes, (0, 1), constant_values=1.0)
    bordered[-1, -1] = 0.0
    aims = np.zeros((len(dofs) + 1, 2))
    aims[:-1, 0], aims[-1, 1] = -dofs, 1.0
    to_the_curve, along = np.linalg.solve(bordered, aims)[:-1].T
    room = -(log_powers + to_the_curve)
    grows = along > 1e-12 * along.max()
    return to_the_curve + np.min(room[grows] / along[grows]) * along
