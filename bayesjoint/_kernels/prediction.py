"""Data predicted by draws: a density that does not fall apart where the draws lie far apart.

Draws expect data ``mu_s`` that spread as ``mu + U b_s``, with ``b_s`` of unit covariance, and data
scatter about them with precision P.  In place of the average of ``N(mu_s, P^-1)`` over draws stands
that of ``N(mu + a U b_s, P^-1 + h^2 U U^T)`` with ``a^2 + h^2 = 1``, whose mean and covariance are
the same (West 1993, J. R. Stat. Soc. B 55, 409).
"""

from dataclasses import dataclass

import numpy as np


def kernel_width(dofs: float, draws: int) -> float:
    """Return h for so many draws that differ in so many dimensions.

    Silverman's rule to the power ``4 / (dofs + 4)``: about as it is in few dimensions, where draws
    show a shape that is not Gaussian, and nearly one in many, where they cannot, and where the log
    of an average over narrow kernels would vary by nats.
    """
    silverman = (4.0 / (dofs + 2.0) / draws) ** (1.0 / (dofs + 4.0))
    return min(1.0, silverman ** (4.0 / (dofs + 4.0)))


def region_probability(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the probability of the ellipsoid about the mean prediction that just holds each group.

    Share of predicted groups (sample, group, member) that are nearer to their mean than the
    measured one (group, member), in the metric of their own covariance, shape (group,).
    """
    found = np.empty(len(measured))
    for i, group in enumerate(measured):
        drawn = predicted[:, i]
        precision = np.linalg.pinv(np.atleast_2d(np.cov(drawn.T)))
        apart = np.concatenate([drawn, group[None]]) - drawn.mean(axis=0)
        distance = np.einsum("si,ij,sj->s", apart, precision, apart)
        found[i] = np.mean(distance[:-1] < distance[-1])
    return found


@dataclass(frozen=True, eq=False)
class Spread:
    """How expected data differ between draws.

    Attributes
    ----------
    directions : ndarray, shape (datum, r)
        U.
    places : ndarray, shape (draw, r)
        ``b_s``.
    """

    directions: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, means: np.ndarray) -> "Spread":
        """Return the spread of means (draw, datum)."""
        left, sizes, right = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
        kept, scale = sizes > 1e-10 * sizes[0], np.sqrt(len(means) - 1)
        return cls(right[kept].T * (sizes[kept] / scale), left[:, kept] * scale)


@dataclass(frozen=True, eq=False)
class Misfit:
    """Data sets y at one draw.

    Attributes
    ----------
    log_density : ndarray, shape (data set,)
        Of ``N(mu_s, P^-1)`` at y.
    pulls : ndarray, shape (r, data set)
        ``U^T P (y - mu_s)``.
    information : ndarray, shape (r, r)
        ``U^T P U``.
    """

    log_density: np.ndarray
    pulls: np.ndarray
    information: np.ndarray

    @property
    def dofs(self) -> float:
        """How many combinations of the data differ between draws by more than their scatter."""
        strength = np.maximum(np.linalg.eigvalsh(self.information), 0.0)
        return float(np.sum(strength / (1.0 + strength)))

    def smoothed(self, place: np.ndarray, draws: int) -> np.ndarray:
        """Return the log-density of each data set in the kernel about one of so many draws."""
        width = kernel_width(self.dofs, draws)
        moved = (1.0 - np.sqrt(1.0 - width**2)) * place
        pulled = self.information @ moved
        scaled = np.eye(len(place)) / width**2 + self.information
        pulls = self.pulls + pulled[:, None]
        density = self.log_density - moved @ self.pulls - 0.5 * moved @ pulled
        density = density + 0.5 * np.sum(pulls * np.linalg.solve(scaled, pulls), axis=0)
        return density - 0.5 * np.linalg.slogdet(width**2 * scaled)[1]

    def learned(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each data set tells of b, nats, and how the draw moves its log-density.

        The first is the Kullback-Leibler divergence of b with the data set from b without, ``(1/2)
        (log det(I + M) - tr M (I + M)^-1 + |c|^2)`` with ``c = (I + M)^-1 U^T P (y - mu)``; the
        second the derivative of ``log N(y; mu, P^-1 + U U^T)`` in the weight of the draw (the
        infinitesimal jackknife), ``c b + (1/2) ((c b)^2 - b M (I + M)^-1 b)``.
        """
        added = np.eye(len(place)) + self.information
        pulled = self.information @ place
        shift = np.linalg.solve(added, self.pulls + pulled[:, None])
        gain = 0.5 * (np.linalg.slogdet(added)[1] - self.dofs + np.sum(shift**2, axis=0))
        moved = place @ shift
        return gain, moved + 0.5 * (moved**2 - place @ np.linalg.solve(added, pulled))
