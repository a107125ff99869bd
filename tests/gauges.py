"""Two gauges with errors in common, one with correlated noise, and a counter."""

import numpy as np
import pymc as pm
import xarray as xr

import bayesjoint as bj

TIMES = np.arange(6.0)


def make(form="marginal", level=1.0, power=1.0):
    """Two gauges with errors in common and a counter: all ways in which data enter a model."""
    level_of = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    rate = bj.Parameter("rate", bj.Prior(pm.Gamma, alpha=20, beta=2))
    time = {"time": TIMES}
    gauges = [
        bj.Modality(
            name, xr.DataArray(np.full(6, level), time, "time"),
            bj.linear_map(np.ones((6, 1)), "level"), noise, power=power,
        )
        for name, noise in {
            "old": bj.GaussianNoise(sd=0.3, scale=bj.Prior(pm.LogNormal, mu=0, sigma=0.3)),
            "new": bj.CorrelatedNoise(covariance=0.1 * (0.5 * np.eye(6) + 0.5)),
        }.items()
    ]  # fmt: skip
    counts = bj.Modality(
        "counts", xr.DataArray(np.full(4, 9.0 + level), dims="day"),
        bj.linear_map(np.ones((4, 1)), "rate"), bj.PoissonNoise(),
    )  # fmt: skip
    errors = bj.JointDiscrepancy(
        sd={"old": 0.2, "new": 0.2}, on="time", length_scale=2.0, correlation=0.5, form=form
    )
    discrepancy = errors if power == 1.0 else None
    return bj.JointProblem(
        latents=[level_of, rate], modalities=[*gauges, counts], discrepancy=discrepancy
    )
