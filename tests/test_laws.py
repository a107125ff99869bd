"""Laws that hold in every linear problem: the price of a compromise, the limit of resolution."""

import numpy as np
import pytest

import bayesjoint as bj
from tests.helpers import data


def draw(seed):
    """Return matrices, data and noise sds of two modalities on one white latent, all random."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 15))
    counts = rng.integers(1, 20, 2)
    sds = 10 ** rng.uniform(-2, 1, 2)
    matrices = [rng.normal(size=(n, size)) * 10 ** rng.uniform(-1, 1) for n in counts]
    # Each modality has a truth of its own in every second problem: they contradict each other.
    truths = rng.normal(size=(2, size)) if seed % 2 else [rng.normal(size=size)] * 2
    values = [
        m @ t + sd * rng.normal(size=len(m)) for m, t, sd in zip(matrices, truths, sds, strict=True)
    ]
    return matrices, values, sds


def best(matrices, values, sds):
    rows = np.concatenate([m / sd for m, sd in zip(matrices, sds, strict=True)])
    target = np.concatenate([v / sd for v, sd in zip(values, sds, strict=True)])
    return np.linalg.solve(np.eye(rows.shape[1]) + rows.T @ rows, rows.T @ target)


def test_the_penalised_misfit_never_falls_in_200_of_200_problems():
    fell = 0
    for seed in range(200):
        matrices, values, sds = parts = draw(seed)
        joint = best(*parts)
        for k in (0, 1):
            own = best(*(part[k : k + 1] for part in parts))
            misfit = [np.sum(((values[k] - matrices[k] @ z) / sds[k]) ** 2) for z in (joint, own)]
            penalised = [c + z @ z for c, z in zip(misfit, (joint, own), strict=True)]
            assert penalised[0] >= penalised[1] * (1 - 1e-12), (seed, k)
            fell += misfit[0] < misfit[1] * (1 - 1e-12)
    assert 0 < fell < 100  # the bare misfit does fall, though seldom


def problem_of(seed):
    matrices, values, sds = draw(seed)
    size = matrices[0].shape[1]
    field = bj.GaussianField("field", bj.Grid(x=np.arange(float(size))), precision=np.eye(size))
    each = [
        bj.Modality(k, data(v, f"{k}_t"), bj.linear_map(m, "field"), bj.GaussianNoise(sd=sd))
        for k, m, v, sd in zip(("first", "second"), matrices, values, sds, strict=True)
    ]
    return bj.JointProblem(latents=[field], modalities=each)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_report_gives_the_penalised_misfits_of_the_closed_form(seed):
    problem = problem_of(seed)
    alone = {name: bj.linearize(part) for name, part in problem.separate().items()}
    report = bj.compromise(bj.linearize(problem), alone)
    matrices, values, sds = parts = draw(seed)
    joint = best(*parts)
    for k in (0, 1):
        misfit = np.sum(((values[k] - matrices[k] @ joint) / sds[k]) ** 2)
        found = report.isel(modality=k)
        assert float(found["chi2_joint"]) == pytest.approx(misfit, rel=1e-6)
        assert float(found["penalised_joint"]) == pytest.approx(misfit + joint @ joint, rel=1e-6)
    assert np.all(report["penalised_joint"] >= report["penalised_separate"] * (1 - 1e-9))


def test_the_resolution_matrix_becomes_the_identity_as_noise_vanishes():
    rng = np.random.default_rng(0)
    grid, matrix = bj.Grid(x=np.arange(5.0)), rng.normal(size=(8, 5))
    field = bj.GaussianField("field", grid, sd=2.0, length_scale=1.0)
    gaps = []
    for sd in (1e-1, 1e-2, 1e-3):
        noise = bj.GaussianNoise(sd=sd)
        line = bj.Modality("line", data(np.zeros(8)), bj.linear_map(matrix, "field"), noise)
        tree = bj.linearize(bj.JointProblem(latents=[field], modalities=[line]))
        found = bj.resolution_matrix(tree, into="field", source="field").values
        gaps.append(np.abs(found - np.eye(5)).max())
    assert gaps[-1] < 1e-4
    assert np.array(gaps[:-1]) / gaps[1:] == pytest.approx(100.0, rel=0.2)  # as the noise squared
