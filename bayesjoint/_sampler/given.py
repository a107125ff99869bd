"""What the data say of fields at a point, and the precision in coordinates recentred by it."""

import numpy as np
from scipy.linalg import eigh, solve_triangular
from scipy.optimize import minimize

from bayesjoint._compiled.coordinates import Coordinates, pull_back, to_point
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.recentring import Given, Recentring
from bayesjoint._kernels.eigensolver import leading_pairs
from bayesjoint._kernels.spectra import preconditioner
from bayesjoint._local import curvature as _curvature
from bayesjoint._local.actions import LocalActions

THRESHOLD = 0.1  # eigenvalues of the information below are left out
MOST = 400  # of them are kept: a gradient costs as their cube
STEP = 1e-4  # of differences of the gradient, in white coordinates
LEAST = 0.25  # curvature of a hyperparameter; the prior alone has one
SEARCH = 200  # steps to the centre
LOOKS = 2  # times that the data are linearised, each where the search before ended


def given_at(functions: ModelFunctions, recentring: Recentring, point: np.ndarray) -> Given:
    """Return the data linearised at a point that is the mode given its hyperparameters.

    Along eigenvectors w of the information of the data on the fields, hyperparameters held:
    ``rows = s^-1 w^T J_z^T C^-1 J_fields`` with ``s^2`` the eigenvalue.  The data are those of
    which the point is the mode, whatever the noise.
    """
    actions, columns = LocalActions(functions, point), recentring.fields
    values, vectors = _informed(actions, columns)
    if not values.size:
        return Given.nothing(recentring.cells)
    root, wide = np.sqrt(values), np.zeros((values.size, functions.size))
    wide[:, columns] = vectors
    weights = actions.errors.solve(actions.push(wide).T) / root
    turned = functions.rotate(weights, transposed=True).T
    rows = np.array(recentring.pull(turned, point)[0])
    data = rows @ recentring.values(point) + vectors @ point[columns] / root
    return Given(rows, data)


def _informed(actions: LocalActions, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading eigenvalues, and eigenvectors as rows over the fields."""
    count, size = columns.size, actions.size
    if count <= _curvature.DENSE_LIMIT:
        units = np.zeros((count, size))
        units[np.arange(count), columns] = 1.0
        whitened = actions.errors.whiten(actions.push(units).T)
        values, inner = eigh(whitened.T @ whitened)
        values, inner = values[::-1], inner.T[::-1]
    else:
        pairs = leading_pairs(lambda rows: _information(actions, columns, rows), count, THRESHOLD)
        values, inner = pairs.values, pairs.vectors.T
    kept = np.flatnonzero(values > THRESHOLD)[:MOST]
    return values[kept], inner[kept]


def _information(actions: LocalActions, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(rows), actions.size))
    wide[:, columns] = rows
    return actions.pull(actions.errors.solve(actions.push(wide).T).T)[:, columns]


class Recentred:
    """The precision of the sampled density in recentred coordinates, at x."""

    def __init__(self, functions: ModelFunctions, x: np.ndarray, given: Given) -> None:
        recentring: Recentring = functions.recentring  # type: ignore[assignment]
        self._fields, self._hyper = recentring.fields, recentring.hyperparameters
        self._matrix = recentring.parts(x, given)[0]
        square = np.eye(len(self._matrix)) + self._matrix @ self._matrix.T
        self._lower = np.linalg.cholesky(square)
        self._precision = _precision(functions, recentring.points(x[None], given)[0])
        self._of_hyper = self._curvature(functions.density.given(given), x)

    def excess(self, rows: np.ndarray) -> np.ndarray:
        """Return the precision less the identity, times each row."""
        inner = rows.copy()
        inner[:, self._hyper] = 0.0
        result = self._pulled(self._precision(self._pushed(inner))) - inner
        result[:, self._hyper] = rows[:, self._hyper] @ self._of_hyper
        return result

    def _pushed(self, rows: np.ndarray) -> np.ndarray:
        """Return T times each row."""
        seen = self._matrix @ rows[:, self._fields].T
        inner = solve_triangular(self._lower + np.eye(len(seen)), seen, lower=True)
        return self._less(rows, solve_triangular(self._lower, inner, lower=True, trans=1))

    def _pulled(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T^T`` times each row."""
        seen = self._matrix @ rows[:, self._fields].T
        inner = solve_triangular(self._lower, seen, lower=True)
        shifted = self._lower + np.eye(len(seen))
        return self._less(rows, solve_triangular(shifted, inner, lower=True, trans=1))

    def _less(self, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
        result = rows.copy()
        result[:, self._fields] -= seen.T @ self._matrix
        return result

    def _curvature(self, density, x: np.ndarray) -> np.ndarray:
        """Return minus the Hessian in the hyperparameters, less the identity."""
        block = np.zeros((self._hyper.size, self._hyper.size))
        for row, column in enumerate(self._hyper):
            moved = np.zeros(x.size)
            moved[column] = STEP
            change = density(x + moved)[1] - density(x - moved)[1]
            block[row] = -change[self._hyper] / (2 * STEP)
        values, vectors = np.linalg.eigh((block + block.T) / 2)
        return (vectors * np.maximum(values, LEAST)) @ vectors.T - np.eye(values.size)


def _precision(functions: ModelFunctions, point: np.ndarray):
    """Return the action of the precision on rows."""
    if functions.size <= _curvature.DENSE_LIMIT:
        matrix = _curvature.sampled_precision(functions, point)
        return lambda rows: rows @ matrix
    actions = LocalActions(functions, point, sampled=True)
    return lambda rows: rows + actions.excess(rows)


def recentred(
    functions: ModelFunctions, recentring: Recentring, modes: np.ndarray
) -> tuple[Given, np.ndarray]:
    """Return the data by which fields are recentred, and x of modes (mode, n), the highest first.

    A mode of the density of z may lie far from where the posterior is: with fields that the data
    fix, it leaves out the volume that hyperparameters give to the prior.  So the first moves to the
    highest density of x.
    """
    point = modes[0]
    for _ in range(LOOKS):
        given = given_at(functions, recentring, point)
        highest = _highest(functions, recentring.from_point(point, given), given)
        point = recentring.points(highest[None], given)[0]
    others = [recentring.from_point(mode, given) for mode in modes[1:]]
    return given, np.stack([highest, *others])


def _highest(functions: ModelFunctions, start: np.ndarray, given: Given) -> np.ndarray:
    """Return where a quasi-Newton search ends, in coordinates scaled by the precision."""
    density = functions.density.given(given)
    scaled = Coordinates.around(start, *recentred_coordinates(functions, start[None], given))
    arrays = scaled.arrays

    def objective(u):
        value, gradient = density(to_point(u, *arrays))
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e300, np.zeros_like(u)
        return -float(value), -pull_back(gradient, *arrays[1:])

    options = {"maxiter": SEARCH, "maxcor": 30, "gtol": 1e-4}
    found = minimize(objective, np.zeros_like(start), jac=True, method="L-BFGS-B", options=options)
    return to_point(found.x, *arrays)


def recentred_coordinates(
    functions: ModelFunctions, rows: np.ndarray, given: Given
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and stretches of the precision averaged over rows of x."""
    each = [Recentred(functions, x, given) for x in rows]

    def excess(vectors: np.ndarray) -> np.ndarray:
        return np.mean([one.excess(vectors) for one in each], axis=0)

    if functions.size <= _curvature.DENSE_LIMIT:
        units = np.eye(functions.size)
        return preconditioner(units + excess(units))
    return _curvature.stretched_directions(excess, functions.size)
