"""What a discrepancy takes from each parameter, against the dense joint Gaussian of both."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import bayesjoint as bj
from bayesjoint._kernels.matern import matern_correlation
from tests.helpers import STANDARD, data

RNG = np.random.default_rng(3)
TIMES = np.arange(8.0)
DESIGNS = {name: RNG.normal(size=(8, 3)) for name in "ab"}
SIZES = {"a": 0.5, "b": 0.3}


def problem(kinds):
    modalities = [
        bj.Modality(
            name, data(RNG.normal(size=8), f"i_{name}", {"time": (f"i_{name}", TIMES)}),
            bj.linear_map({"level": DESIGNS[name][:, :1], "gain": DESIGNS[name][:, 1:]}),
            bj.GaussianNoise(sd=0.2),
        )
        for name in "ab"
    ]  # fmt: skip
    latents = [
        bj.Parameter("level", STANDARD),
        bj.Parameter("gain", STANDARD, coords={"k": [0, 1]}),
    ]
    return bj.JointProblem(latents=latents, modalities=modalities, discrepancy=kinds)


def dense(kinds):
    """Return the covariance of each discrepancy, its posterior with the parameters, and J."""
    jacobian = np.concatenate([DESIGNS[name] for name in "ab"])
    kernel = matern_correlation(cdist(TIMES[:, None], TIMES[:, None]) / 2.0, 1.5)
    shared = np.kron([[0.25, 0.12], [0.12, 0.09]], kernel)
    own = np.kron(np.diag([0.0, 0.16]), np.eye(8))
    parts = [shared, own][: len(kinds)]
    size = jacobian.shape[1]
    # Prior of (parameters, discrepancies), and the data as a sum of what each adds.
    prior = np.zeros((size + 16 * len(parts),) * 2)
    prior[:size, :size] = np.eye(size)
    for i, part in enumerate(parts):
        where = slice(size + 16 * i, size + 16 * (i + 1))
        prior[where, where] = part
    seen = np.concatenate([jacobian, *[np.eye(16)] * len(parts)], axis=1)
    total = seen @ prior @ seen.T + 0.04 * np.eye(16)
    return prior - prior @ seen.T @ np.linalg.solve(total, seen @ prior), size


SHARED = bj.JointDiscrepancy(sd=SIZES, correlation=0.8, on="time", length_scale=2.0, name="shared")
OWN = bj.JointDiscrepancy(sd={"b": 0.4}, name="own")


@pytest.mark.parametrize("kinds", [[SHARED], [SHARED, OWN]])
def test_confounding_is_the_share_that_knowing_the_discrepancy_takes(kinds):
    """Mode by mode where the discrepancy is alone, by a factor where there are two."""
    posterior, size = dense(kinds)
    report = bj.identifiability(tree := bj.linearize(problem(kinds)))
    linear = tree["linearization"]
    for i, kind in enumerate(kinds):
        where = slice(size + 16 * i, size + 16 * (i + 1))
        crossed = posterior[:size, where]
        explained = crossed @ np.linalg.pinv(posterior[where, where], rcond=1e-12) @ crossed.T
        expected = np.diag(explained) / np.diag(posterior)[:size]
        found = report["confounding"].sel(discrepancy=kind.name)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
        mode = linear["confounding_mode"].sel(discrepancy=kind.name, scalar="level")
        np.testing.assert_allclose(
            mode, crossed[0] / np.sqrt(posterior[0, 0]), rtol=1e-6, atol=1e-9
        )
        rms = linear["confounding_rms"].sel(discrepancy=kind.name, scalar="level")
        halves = np.split(crossed[0] / np.sqrt(posterior[0, 0]) / 0.2, 2)
        np.testing.assert_allclose(rms, [np.sqrt(np.mean(h**2)) for h in halves], atol=1e-9)


def test_a_confounded_parameter_is_named():
    """A constant and a smooth error can hardly be told apart; a well known one is not named."""
    times = np.linspace(0.0, 1.0, 20)
    level = bj.Parameter("level", STANDARD)
    series = bj.Modality(
        "series", data(np.zeros(20), "i", {"time": ("i", times)}),
        bj.linear_map(np.ones((20, 1)), "level"), bj.GaussianNoise(sd=0.1),
    )  # fmt: skip
    smooth = bj.JointDiscrepancy(sd={"series": 0.5}, on="time", length_scale=2.0, name="drift")
    made = bj.JointProblem(latents=[level], modalities=[series], discrepancy=smooth)
    (words,) = bj.identifiability(bj.linearize(made)).attrs["words"]
    assert words.startswith("level: 99")
    assert "posterior variance is drift; one sd of it trades off with" in words
    assert words.endswith("noise sd in series")
    rough = made.replace(discrepancy=bj.JointDiscrepancy(sd={"series": 0.01}, name="rough"))
    assert bj.identifiability(bj.linearize(rough)).attrs["words"] == []
