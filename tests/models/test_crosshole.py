"""Crosshole tomographies: rays, the section, and what each coupling carries over."""

import numpy as np
import pytest

import bayesjoint as bj
from models import crosshole, gravity_traveltime


@pytest.fixture(scope="module")
def grid():
    return crosshole.section_grid()


def test_lengths_are_those_of_another_algorithm(grid):
    faces = [np.append(0.0, np.cumsum(width)) for width in grid.widths]
    rng = np.random.default_rng(1)
    ends = rng.uniform(0.0, 1.0, (2, 50, 2)) * [crosshole.DEPTH, crosshole.WIDTH]
    expected = gravity_traveltime.ray_lengths(ends[0][:, ::-1], ends[1][:, ::-1], *faces[::-1])
    np.testing.assert_allclose(crosshole.ray_lengths(*ends, faces), expected, atol=1e-9)


def test_rays_run_from_side_to_side(grid):
    across = {"shots": crosshole.WIDTH, "traces": crosshole.DEPTH}
    for name, matrix in crosshole.matrices(grid).items():
        lengths = matrix.sum(axis=1)
        assert matrix.shape == (36, grid.size)
        assert lengths.min() == pytest.approx(across[name])  # the straight ones
        assert np.all(matrix >= 0)


def test_the_two_properties_share_their_blocks_or_not(grid):
    shared, apart = (crosshole.truth(grid, s) for s in (True, False))
    correlation = np.corrcoef(shared.seismic.values.ravel(), shared.radar.values.ravel())[0, 1]
    assert correlation == pytest.approx(-0.98, abs=0.01)
    assert abs(np.corrcoef(apart.seismic.values.ravel(), apart.radar.values.ravel())[0, 1]) < 0.3


@pytest.fixture(scope="module")
def errors(grid):
    """Relative errors of the posterior mean, which is the mode where all is Gaussian."""
    section = crosshole.truth(grid)
    return {
        coupling: crosshole.relative_error(
            bj.linearize(crosshole.problem(coupling=coupling))["linearization"].to_dataset(),
            section,
        )
        for coupling in ("none", "correlated", "relation")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", crosshole.PRIOR)
def test_correlated_fields_carry_edges_from_one_to_the_other(errors, name):
    # Measured: 0.67 and 0.66 apart, 0.41 and 0.43 together.
    assert errors["none"][name] > 0.6
    assert errors["correlated"][name] < 0.45
    assert errors["relation"][name] < 0.45


def test_an_unknown_coupling_is_told():
    with pytest.raises(ValueError, match="coupling 'magic' is unknown"):
        crosshole.problem(coupling="magic")
    with pytest.raises(ValueError, match="no measured data"):
        crosshole.problem("folder")
