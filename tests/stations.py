"""Stations and pixels that see two unknowns, in closed form, for tests of what is left out."""

import numpy as np
import xarray as xr

import bayesjoint as bj
from tests.helpers import STANDARD, data

STATIONS, COMPONENTS, PIXELS = 8, 2, 5
SIZE = STATIONS * COMPONENTS + PIXELS
WITHIN = np.arange(STATIONS * COMPONENTS).reshape(STATIONS, COMPONENTS)


class Case:
    """Two unknowns, stations with components and pixels, all in closed form."""

    def __init__(self, kind, power=1.0):
        rng = np.random.default_rng(5)
        self.sensitivity = 0.3 * rng.standard_normal((SIZE, 2))
        root = np.eye(PIXELS) + 0.3 * np.tri(PIXELS)
        self.covariance = 0.2**2 * np.eye(SIZE)
        noise = bj.GaussianNoise(sd=0.2)
        if kind == "correlated noise":
            self.covariance[-PIXELS:, -PIXELS:] = root @ root.T
            noise = bj.CorrelatedNoise(covariance=root @ root.T)
        shared = None
        if kind == "discrepancy":
            loading = np.repeat([0.5, -0.8], [SIZE - PIXELS, PIXELS])
            at = rng.uniform(0, 3, SIZE)
            distance = np.abs(at[:, None] - at)
            self.covariance += np.outer(loading, loading) * np.exp(-distance / 0.7)
            shared = bj.JointDiscrepancy(
                sd=1.0, loadings={"gnss": 0.5, "insar": -0.8}, on="t", length_scale=0.7,
                smoothness=0.5,
            )  # fmt: skip
        else:
            at = np.zeros(SIZE)
        truth = self.sensitivity @ [0.5, -1.0]
        self.data = truth + np.linalg.cholesky(self.covariance) @ rng.standard_normal(SIZE)
        inside = STATIONS * COMPONENTS
        dims = ("station", "component")
        first = data(
            self.data[:inside].reshape(WITHIN.shape), dims,
            {"t": (dims, at[:inside].reshape(WITHIN.shape))},
        )  # fmt: skip
        second = data(self.data[inside:], "pixel", {"t": ("pixel", at[inside:])})
        parts = {"gnss": (first, slice(0, inside)), "insar": (second, slice(inside, SIZE))}
        self.problem = bj.JointProblem(
            latents=[bj.Parameter(name, STANDARD) for name in ("a", "b")],
            modalities=[
                bj.Modality(
                    name,
                    observed,
                    bj.linear_map({"a": self.sensitivity[w, :1], "b": self.sensitivity[w, 1:]}),
                    noise if name == "insar" else bj.GaussianNoise(sd=0.2),
                    power=power,
                )
                for name, (observed, w) in parts.items()
            ],
            discrepancy=shared,
        )
        self.power = power

    def posterior(self, kept):
        """Return mean and covariance given some of the data."""
        sensitivity = self.sensitivity[kept]
        errors = self.covariance[np.ix_(kept, kept)] / self.power
        precision = np.eye(2) + sensitivity.T @ np.linalg.solve(errors, sensitivity)
        information = sensitivity.T @ np.linalg.solve(errors, self.data[kept])
        return np.linalg.solve(precision, information), np.linalg.inv(precision)

    def draws(self, count):
        mean, covariance = self.posterior(np.arange(SIZE))
        rng = np.random.default_rng(1)
        values = rng.multivariate_normal(mean, covariance, (1, count), method="cholesky")
        draws = {n: (("chain", "draw"), values[..., i]) for i, n in enumerate("ab")}
        return xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})

    def given_the_rest(self, group):
        """Return offset, sensitivity and covariance of errors of a group given all other data."""
        rest = np.setdiff1d(np.arange(SIZE), group)
        gain = np.linalg.solve(
            self.covariance[np.ix_(rest, rest)], self.covariance[np.ix_(rest, group)]
        ).T
        sensitivity = self.sensitivity[group] - gain @ self.sensitivity[rest]
        errors = self.covariance[np.ix_(group, group)] - gain @ self.covariance[np.ix_(rest, group)]
        return gain @ self.data[rest], sensitivity, errors

    def prediction(self, group):
        """Return mean and covariance of a group given all other data, unknowns integrated out."""
        mean, covariance = self.posterior(np.setdiff1d(np.arange(SIZE), group))
        offset, sensitivity, errors = self.given_the_rest(group)
        return offset + sensitivity @ mean, errors + sensitivity @ covariance @ sensitivity.T

    def weighted(self, group, times):
        """Return the Gaussian law of draws under weights that leave a group out, and their sum.

        The weights are one over the density of the group given the rest, raised to a power
        ``times``; the logarithm of their mean over all draws is up to ``times`` a constant.
        """
        mean, covariance = self.posterior(np.arange(SIZE))
        offset, sensitivity, errors = self.given_the_rest(group)
        left, precision = self.data[group] - offset, np.linalg.inv(covariance)
        scaled = times * self.power * np.linalg.solve(errors, np.column_stack([sensitivity, left]))
        changed = precision - sensitivity.T @ scaled[:, :2]
        centre = np.linalg.solve(changed, precision @ mean - sensitivity.T @ scaled[:, 2])
        log_mass = 0.5 * (np.linalg.slogdet(precision)[1] - np.linalg.slogdet(changed)[1])
        log_mass += 0.5 * (centre @ changed @ centre - mean @ precision @ mean)
        return centre, np.linalg.inv(changed), log_mass + 0.5 * left @ scaled[:, 2]

    def leverage(self, group):
        """Return the largest share that a group has in what is known of any direction.

        The weights that leave it out have a Pareto tail of that shape.
        """
        _, sensitivity, errors = self.given_the_rest(group)
        gained = self.power * sensitivity.T @ np.linalg.solve(errors, sensitivity)
        return np.linalg.eigvals(self.posterior(np.arange(SIZE))[1] @ gained).real.max()

    def errors_left_out(self, group, count):
        """Return the Monte Carlo errors of what as many weighted draws say of a group left out.

        Of its log density, and of mean and sd of as many predictions (datum): by the variance of a
        weighted mean, ``E[w^2 (h - E h)^2] / n`` with weights of mean one, and that of resampling.
        """
        mean, covariance = self.prediction(group)
        offset, sensitivity, errors = self.given_the_rest(group)
        centre, spread, log_mass = self.weighted(group, 2)
        square = np.exp(log_mass - 2 * self.weighted(group, 1)[2])  # E[w^2]
        away = offset + sensitivity @ centre - mean
        moved = np.diag(errors + sensitivity @ spread @ sensitivity.T)
        variance = np.diag(covariance)
        second, fourth = moved + away**2, 3 * moved**2 + 6 * moved * away**2 + away**4
        of_square = square * (fourth - 2 * variance * second + variance**2) + 2 * variance**2
        return (
            np.sqrt((square - 1) / count),
            np.sqrt((square * second + variance) / count),
            np.sqrt(of_square / variance / count) / 2,
        )


KINDS = ["independent", "correlated noise", "discrepancy"]
