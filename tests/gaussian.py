"""A linear-Gaussian joint problem and its closed form, for tests."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

import bayesjoint as bj


@dataclass(frozen=True)
class GaussianCase:
    problem: bj.JointProblem
    prior_factors: dict[str, np.ndarray]  # L of each latent
    jacobian: np.ndarray  # (data, cells)
    covariance: np.ndarray  # of all errors
    data: np.ndarray

    @property
    def prior(self) -> np.ndarray:
        blocks = list(self.prior_factors.values())
        size = sum(b.shape[0] for b in blocks)
        out, start = np.zeros((size, size)), 0
        for block in blocks:
            stop = start + block.shape[0]
            out[start:stop, start:stop] = block @ block.T
            start = stop
        return out

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance by the textbook formula (zero prior mean)."""
        gain = self.prior @ self.jacobian.T
        gain = np.linalg.solve(self.jacobian @ gain + self.covariance, gain.T).T
        return gain @ self.data, self.prior - gain @ self.jacobian @ self.prior

    def resolution(self) -> np.ndarray:
        gain = self.prior @ self.jacobian.T
        return np.linalg.solve(self.jacobian @ gain + self.covariance, gain.T).T @ self.jacobian


def field_factor(field: bj.GaussianField) -> np.ndarray:
    """Return L of a field by evaluating it at unit white vectors."""
    import pytensor

    from bayesjoint._graph.compile import INTERPRETED
    from bayesjoint.problem import build

    made = build(bj.JointProblem(latents=[field], modalities=[]))
    white = made.model[f"{field.name}_white"]
    evaluate = pytensor.function([white], made.values[field.name], mode=INTERPRETED)
    units = np.eye(field.grid.size).reshape(-1, *field.shape)
    return np.stack([evaluate(unit).ravel() for unit in units], axis=1)


def gaussian_case(form: str = "auto", shape=(10, 10), n=40, correlation=0.6) -> GaussianCase:
    """Return two fields, two linear modalities of n data each, and a correlated discrepancy."""
    rng = np.random.default_rng(42)
    grid = bj.Grid(depth=np.arange(float(shape[0])), x=np.arange(float(shape[1])))
    fields = [
        bj.GaussianField("density", grid, sd=2.0, length_scale=2.0),
        bj.GaussianField("slowness", grid, sd=0.5, length_scale=1.5),
    ]
    size = grid.size
    first = rng.normal(size=(n, size)) / np.sqrt(size)
    second = {"density": 0.1 * rng.normal(size=(n, size)), "slowness": rng.normal(size=(n, size))}
    second = {key: value / np.sqrt(size) for key, value in second.items()}
    jacobian = np.block([[first, np.zeros((n, size))], [second["density"], second["slowness"]]])
    sds = np.diag([0.3, 0.2])
    mixing = sds @ np.array([[1.0, correlation], [correlation, 1.0]]) @ sds
    covariance = np.kron(mixing, np.eye(n)) + np.diag(np.repeat([0.1**2, 0.05**2], n))
    factors = {f.name: field_factor(f) for f in fields}
    truth = np.concatenate([factor @ rng.normal(size=size) for factor in factors.values()])
    data = jacobian @ truth + np.linalg.cholesky(covariance) @ rng.normal(size=2 * n)
    problem = bj.JointProblem(
        latents=fields,
        modalities=[
            bj.Modality(
                "gravity",
                xr.DataArray(data[:n], dims="station"),
                bj.linear_map(first, "density"),
                bj.GaussianNoise(sd=0.1),
            ),
            bj.Modality(
                "arrivals",
                xr.DataArray(data[n:], dims="ray"),
                bj.linear_map(second),
                bj.GaussianNoise(sd=0.05),
            ),
        ],
        discrepancy=bj.JointDiscrepancy(
            sd={"gravity": 0.3, "arrivals": 0.2}, correlation=correlation, form=form
        ),
    )
    return GaussianCase(problem, factors, jacobian, covariance, data)
