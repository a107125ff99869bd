"""The balance of modalities, through the model: powers that give each an equal say."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest

import bayesjoint as bj
from tests.helpers import data

GRID = bj.Grid(x=np.arange(6.0))
FIELD = bj.GaussianField("density", GRID, sd=2.0, length_scale=1.5)


def seen(name, rows, sd, seed):
    rng = np.random.default_rng(seed)
    forward = bj.linear_map(rng.normal(size=(rows, 6)), "density")
    return bj.Modality(
        name, data(rng.normal(size=rows), f"{name}_datum"), forward, bj.GaussianNoise(sd=sd)
    )


@pytest.fixture(scope="module")
def problem():
    """Three modalities of unlike strength on one field."""
    each = [seen("gravity", 8, 1.0, 0), seen("arrivals", 4, 0.1, 1), seen("radar", 3, 3.0, 2)]
    return bj.JointProblem(latents=[FIELD], modalities=each)


def tempered(problem, report):
    """Return the problem with the powers of a balance, as its documentation says."""
    power = report["power"]
    return problem.replace(
        modalities=[replace(m, power=float(power.sel(modality=m.name))) for m in problem.modalities]
    )


def test_powers_give_an_equal_say(problem):
    report = bj.balance(problem, equalise=True)
    assert float(report["power"].max()) == 1.0
    assert np.ptp(report["dofs_share"].values) > 0.3
    again = bj.balance(tempered(problem, report))
    np.testing.assert_allclose(again["dofs_share"], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(again["partial_dofs"], report["dofs_equalised"], rtol=1e-6)
    assert again.attrs["departure"].startswith("departure from the model")
    assert any("Tempered already" in text for text in again.attrs["words"])


def test_powers_are_found_anew_from_a_tempered_problem(problem):
    first = bj.balance(problem, equalise=True)
    second = bj.balance(tempered(problem, first), equalise=True)
    np.testing.assert_allclose(second["power"], first["power"], rtol=1e-6)


def test_an_unknown_noise_scale_is_told_and_equalised_at_its_point():
    scale = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
    strong = replace(seen("arrivals", 12, 0.1, 1), noise=bj.GaussianNoise(sd=1.0, scale=scale))
    problem = bj.JointProblem(latents=[FIELD], modalities=[seen("gravity", 8, 1.0, 0), strong])
    tree = bj.linearize(problem)
    report = bj.balance(tree, equalise=True)
    assert report.attrs["noise_scales"] == ["known", "unknown"]
    assert any("scale of arrivals is unknown and found" in t for t in report.attrs["words"])
    there = {name: tree["linearization"][name].values for name in ("density", "arrivals_scale")}
    again = bj.balance(bj.linearize(tempered(problem, report), at=there))
    np.testing.assert_allclose(again["dofs_share"], 0.5, rtol=1e-5)


def test_what_is_no_problem_raises():
    with pytest.raises(ValueError, match="a dict is neither a problem nor a tree"):
        bj.balance({})
