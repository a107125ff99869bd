"""What a discrepancy takes from each parameter: variance, and the mode that it trades off with."""

from typing import Any

import numpy as np

from bayesjoint._local.informed import Informed


def of_discrepancies(
    informed: Informed, physical: np.ndarray, posterior_sd: np.ndarray
) -> dict[str, Any]:
    """Return how each unknown is confounded with each discrepancy, as variables of a dataset.

    Parameters
    ----------
    informed : Informed
    physical : ndarray, shape (cell, mode)
        Its directions in physical units.
    posterior_sd : ndarray, shape (cell,)

    Returns
    -------
    dict
        ``confounding`` (discrepancy, cell): share of the posterior variance that would vanish if
        the discrepancy were known; ``confounding_mode`` (discrepancy, scalar, datum): how the
        discrepancy changes, in the units of the data, where a scalar unknown is one posterior sd
        greater; ``confounding_rms`` (discrepancy, scalar, modality): the same in noise sd, root
        mean square over the data.  Empty without discrepancies.

    Notes
    -----
    Given the data, parameter and discrepancy are jointly Gaussian, with ``Cov(delta, theta) =
    -K C^-1 J Cov(theta)``, C = R + K: the mode is that of the regression of delta on theta.
    """
    functions, names = informed.functions, list(informed.functions.build.factors)
    if not names:
        return {}
    scalars = _scalars(informed)
    left = 1.0 / (1.0 + informed.spectrum.values)
    # Directions without pair, which no data inform, keep the variance of the prior.
    variance = np.maximum(posterior_sd**2, np.finfo(float).tiny)
    rest = np.maximum(variance - physical**2 @ left, 0.0) if not informed.complete else 0.0
    shares = [1.0 - (_known(informed, n, physical) + rest) / variance for n in names]
    cells = list(scalars.values())
    moved = informed.pushed @ (left * physical[cells]).T / np.sqrt(variance[cells])
    solved = functions.rotate(informed.actions.errors.solve(moved), transposed=True)
    point = informed.actions.point
    modes = [-functions.discrepancy_times(name, point, solved).T for name in names]
    noise = functions.errors(point, without=names).variance
    squares = [mode**2 / noise for mode in modes]
    rms = [
        np.stack([s[:, w].mean(axis=1) for w in functions.data_slices.values()], axis=1)
        for s in squares
    ]
    return {
        "confounding": (("discrepancy", "cell"), np.clip(shares, 0.0, 1.0)),
        "confounding_mode": (("discrepancy", "scalar", "datum"), np.stack(modes)),
        "confounding_rms": (("discrepancy", "scalar", "modality"), np.sqrt(rms)),
        "scalar": ("scalar", np.array(list(scalars), dtype=str)),
        "discrepancy": ("discrepancy", np.array(names, dtype=str)),
    }


def _scalars(informed: Informed) -> dict[str, int]:
    """Return the cell of each latent that is one number."""
    space = informed.scaling.space
    latents = informed.functions.problem.latent
    cells = {name: where for name, where in space.cell_slices.items() if name in latents}
    return {name: w.start for name, w in cells.items() if w.stop - w.start == 1}


def _known(informed: Informed, name: str, physical: np.ndarray) -> np.ndarray:
    """Return the posterior variance of each cell if one discrepancy were known.

    Of the directions with a pair: those that no data inform stay so.
    """
    functions, pushed = informed.functions, informed.pushed
    errors = functions.errors(informed.actions.point, power=True, without=[name])
    gained = pushed.T @ (errors.solve(pushed) - informed.actions.errors.solve(pushed))
    precision = np.diag(1.0 + informed.spectrum.values) + (gained + gained.T) / 2
    return np.sum(physical * np.linalg.solve(precision, physical.T).T, axis=1)
