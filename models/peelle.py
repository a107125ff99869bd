"""Peelle's pertinent puzzle: two measurements of one quantity that share a relative error.

One quantity was measured twice, as 1.5 and as 1.0.  Each has an independent error of 10 %, and both
share an error of 20 %, of one calibration, say.  What is the quantity?  Generalised least squares
with these errors written down from the data answers 0.88 +- 0.22: less than either measurement.

    first  = theta (1 + 20 % common) (1 + 10 % own)
    second = theta (1 + 20 % common) (1 + 10 % own)

The answer turns on what the common error is relative *to*:

``additive_from_data``
    An additive error common to both, with loadings 20 % of the *measurements*, 0.3 and 0.2.  A
    common error of that form is larger for the first, so it can explain that the first is larger.
``additive_from_model``
    The same with loadings 20 % and own errors 10 % of the *prediction*: equal for both, since they
    measure one quantity, so that the common error explains no difference between them.
``multiplicative``
    The common error as what it is, a factor that multiplies both predictions, a latent of its own.
    It is log-normal, because a calibration factor is not negative.  The own errors are additive,
    10 % of the measurements, so that the second weighs more than the first.
``lognormal``
    All errors as factors, additive and Gaussian in the logarithms of the data.

The last three answers lie between the measurements.  The prior of the quantity is as good as flat:
in itself where all errors are additive, in its logarithm where some are factors.

R. W. Peelle, Peelle's pertinent puzzle, informal memorandum, Oak Ridge National Laboratory (1987);
T. Burr, T. Kawano, P. Talou, F. Pan and N. Hengartner, Algorithms 4 (2011) 28, doi
10.3390/a4010028.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

import bayesjoint as bj

MEASURED = {"first": 1.5, "second": 1.0}
OWN, COMMON = 0.10, 0.20  # relative errors
ERRORS = ("additive_from_data", "additive_from_model", "multiplicative", "lognormal")
FLAT = bj.Prior(pm.Normal, mu=1.0, sigma=100.0)
FLAT_IN_LOGARITHM = bj.Prior(pm.LogNormal, mu=0.0, sigma=3.0)


def problem(
    data: Mapping[str, float] | None = None, *, errors: str = "multiplicative"
) -> bj.JointProblem:
    """Return the joint problem of both measurements.

    Parameters
    ----------
    data : mapping of str to float, optional
        The measurements, 1.5 and 1.0 by default; positive, at least two.
    errors : str
        One of `ERRORS`.

    Raises
    ------
    ValueError
        If the errors are unknown, or the measurements are not two or more positive numbers.

    Examples
    --------
    >>> tree = bj.linearize(problem(errors="additive_from_data"))
    >>> round(float(tree["linearization/theta"]), 3)  # less than both measurements
    0.882
    """
    if data is not None and not isinstance(data, Mapping):
        raise ValueError("peelle: give the measurements by name, as in {'first': 1.5, 'second': 1}")
    measured = {name: float(value) for name, value in (data or MEASURED).items()}
    if errors not in ERRORS:
        raise ValueError(f"peelle: errors {errors!r} are unknown; use one of {ERRORS}")
    if len(measured) < 2 or min(measured.values()) <= 0.0:
        raise ValueError(f"peelle: two or more positive measurements are needed, not {measured}")
    if errors == "multiplicative":
        return _multiplicative(measured)
    if errors == "lognormal":
        return _lognormal(measured)
    # All predictions are one number, whose errors weigh the same: it is the mean of the data.
    mean = float(np.mean(list(measured.values())))
    relative_to = measured if errors == "additive_from_data" else dict.fromkeys(measured, mean)
    return _additive(measured, relative_to)


def _additive(measured: Mapping[str, float], relative_to: Mapping[str, float]) -> bj.JointProblem:
    same = bj.linear_map(np.ones((1, 1)), "theta")
    return bj.JointProblem(
        latents=[bj.Parameter("theta", FLAT)],
        modalities=[
            _modality(name, value, same, OWN * relative_to[name])
            for name, value in measured.items()
        ],
        discrepancy=bj.JointDiscrepancy(loadings=relative_to, sd=COMMON, name="common"),
    )


def _multiplicative(measured: Mapping[str, float]) -> bj.JointProblem:
    def scaled(theta, factor):
        return (theta * factor)[None]

    forward = bj.pytensor_map(scaled, ["theta", "factor"])
    return bj.JointProblem(
        latents=[
            bj.Parameter("theta", FLAT_IN_LOGARITHM),
            bj.Parameter("factor", bj.Prior(pm.LogNormal, mu=0.0, sigma=COMMON)),
        ],
        modalities=[
            _modality(name, value, forward, OWN * value) for name, value in measured.items()
        ],
    )


def _lognormal(measured: Mapping[str, float]) -> bj.JointProblem:
    def logarithm(theta):
        return pt.log(theta)[None]

    forward = bj.pytensor_map(logarithm, "theta")
    return bj.JointProblem(
        latents=[bj.Parameter("theta", FLAT_IN_LOGARITHM)],
        modalities=[
            _modality(name, np.log(value), forward, OWN) for name, value in measured.items()
        ],
        discrepancy=bj.JointDiscrepancy(
            loadings=dict.fromkeys(measured, 1.0), sd=COMMON, name="common"
        ),
    )


def _modality(name: str, value: float, forward: Any, sd: float) -> bj.Modality:
    datum = xr.DataArray([value], dims="measurement", name=name)
    return bj.Modality(name, datum, forward, bj.GaussianNoise(sd=sd))
