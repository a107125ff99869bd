"""Structural couplings: one battery runs each of them through the properties that all share."""

import pickle
from functools import cache

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.gradient import jacobian

import bayesjoint as bj
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import INTERPRETED, UNOPTIMISED
from tests.structural import (
    CASES,
    CROSS,
    EDGE,
    GRIDS,
    PLACES,
    SD,
    SPARSITY,
    TV,
    add,
    draw,
    image,
    log_p,
)  # fmt: skip

HOLES = {"1-D": [2], "2-D": [(1, 2), 3], "3-D": [(1, 0, 1)]}
EVERYWHERE = pytest.mark.parametrize(("name", "dims"), PLACES)
IN_2D = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@cache
def derivatives(name, dims):
    """Return ``fields -> (log density, gradient, J^T J)``, flat."""
    grid = GRIDS[dims]
    coupling = CASES[name](grid)
    inputs, build = add(coupling, grid)
    density, residual = build.log_priors[coupling.name], build.residuals[coupling.name]
    parts = [jacobian(residual, x, vectorize=True).reshape((-1, grid.size)) for x in inputs]
    full = pt.concatenate(parts, axis=1)
    gradient = pt.concatenate([g.ravel() for g in pt.grad(density, inputs)])
    return pytensor.function(inputs, [density, gradient, full.T @ full, residual], mode=INTERPRETED)


def hessian(function, values, step=1e-5):
    """Return that of minus the log-density, by differences of the gradient."""
    flat = np.concatenate([np.ravel(v) for v in values])

    def gradient(point):
        return function(*(p.reshape(values[0].shape) for p in np.split(point, len(values))))[1]

    units = step * np.eye(flat.size)
    return -np.array([(gradient(flat + u) - gradient(flat - u)) / (2 * step) for u in units])


@pytest.mark.parametrize(
    ("name", "dims"),
    [pytest.param(*p, marks=pytest.mark.slow if p[1] == "3-D" else ()) for p in PLACES],
)
def test_gradient_agrees_with_finite_differences(name, dims, rng):
    function, values = derivatives(name, dims), draw(CASES[name], GRIDS[dims], rng)
    found, step = function(*values)[1], 1e-5
    expected = []
    for k in range(len(values)):
        for unit in step * np.eye(values[k].size).reshape(-1, *values[k].shape):
            sides = [
                function(*(v + s * unit if i == k else v for i, v in enumerate(values)))[0]
                for s in (1, -1)
            ]
            expected.append((sides[0] - sides[1]) / (2 * step))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(found).max())


@EVERYWHERE
def test_the_gauss_newton_term_is_the_hessian_where_it_costs_nothing(name, dims, rng):
    """Parallel fields for a cross-gradient, flat ones for edges and on a profile."""
    function, case, grid = derivatives(name, dims), CASES[name], GRIDS[dims]
    one = image(grid) if case.guided else rng.normal(size=grid.shape)
    shape = one if case.least_squares and dims != "1-D" else 0 * one
    values = [(-1) ** k * SD[n] * shape for k, n in enumerate(case.names)]
    _, gradient, term, _ = function(*values)
    assert np.abs(gradient).max() < 1e-8 * np.abs(term).max()
    np.testing.assert_allclose(
        term, hessian(function, values), rtol=1e-4, atol=1e-5 * np.abs(term).max()
    )


@EVERYWHERE
def test_the_gauss_newton_term_elsewhere(name, dims, rng):
    """Never indefinite; of a least-squares density its own, of edges a bound from above."""
    function, values = derivatives(name, dims), draw(CASES[name], GRIDS[dims], rng)
    density, _, term, residual = function(*values)
    size = np.abs(term).max()
    assert np.linalg.eigvalsh(term)[0] > -1e-10 * size
    assert residual.ndim == 1
    if CASES[name].least_squares:
        assert density == pytest.approx(-0.5 * np.sum(residual**2), rel=1e-12)
    else:
        assert np.linalg.eigvalsh(term - hessian(function, values))[0] > -1e-5 * size


@EVERYWHERE
def test_the_order_of_the_dimensions_does_not_matter(name, dims, rng):
    case, grid = CASES[name], GRIDS[dims]
    values = draw(case, grid, rng)
    turned = bj.Grid(**dict(reversed(grid.centres.items())))
    guide = {"guide": image(grid).T} if case.guided else {}
    found = log_p(case(turned, **guide), turned, [v.T for v in values])
    assert found == pytest.approx(log_p(case(grid), grid, values), rel=1e-12)


@EVERYWHERE
def test_the_order_of_the_properties_does_not_matter(name, dims, rng):
    case, grid = CASES[name], GRIDS[dims]
    values = draw(case, grid, rng)
    found = log_p(case(grid, names=case.names[::-1]), grid, values[::-1])
    assert found == pytest.approx(log_p(case(grid), grid, values), rel=1e-12)


@IN_2D
def test_units_do_not_matter(case, rng):
    """Those of the properties, where scales follow them, and those of the coordinates."""
    grid = GRIDS["2-D"]
    values = draw(case, grid, rng)
    expected = log_p(case(grid), grid, values)
    factor = {"a": 1_000.0, "b": 1 / 60, "c": 3.0}
    scales = dict(case.settings).get("scales") or {}
    changes = {"scales": {n: s * factor[n] for n, s in scales.items()}} if scales else {}
    scaled = [factor[n] * v for n, v in zip(case.names, values, strict=True)]
    sd = {n: SD[n] * factor[n] for n in case.names}
    assert log_p(case(grid, **changes), grid, scaled, sd=sd) == pytest.approx(expected, rel=1e-9)
    metres = bj.Grid(**{dim: 1_000 * centres for dim, centres in grid.centres.items()})
    assert log_p(case(grid), metres, values) == pytest.approx(expected, rel=1e-9)


@IN_2D
def test_a_precision_gives_the_same_coupling_as_the_covariance_it_inverts(case, rng):
    grid = GRIDS["2-D"]
    values, coupling = draw(case, grid, rng), case(grid)
    scale = 0.3 * max(grid.extent)
    matern = {n: bj.GaussianField(n, grid, sd=SD[n], length_scale=scale) for n in case.names}
    root = {n: field.factor({}).times(np.eye(grid.size)) for n, field in matern.items()}
    dense = {
        n: bj.GaussianField(n, grid, precision=np.linalg.inv(r @ r.T)) for n, r in root.items()
    }
    found = []
    for fields in (matern, dense):
        build = ModelBuild(pm.Model())
        build.values.update({n: pt.constant(v) for n, v in zip(case.names, values, strict=True)})
        with build.model:
            coupling.add_to_model(build, fields)
        found.append(float(build.log_priors[coupling.name].eval(mode=UNOPTIMISED)))
    assert found[1] == pytest.approx(found[0], rel=1e-6)


@IN_2D
def test_a_map_of_weights(case, rng):
    """One number everywhere is that number; maps add up; no weight, no cost."""
    grid = GRIDS["2-D"]
    values = draw(case, grid, rng)
    expected = log_p(case(grid), grid, values)
    assert log_p(case(grid, weight=21.0), grid, values) == pytest.approx(3 * expected, rel=1e-12)
    even = np.full(grid.shape, 7.0)
    assert log_p(case(grid, weight=even), grid, values) == pytest.approx(expected, rel=1e-12)
    some = rng.uniform(0, 7, grid.shape) * (rng.random(grid.shape) < 0.7)
    parts = [log_p(case(grid, weight=w), grid, values) for w in (some, 7.0 - some)]
    assert max(parts) < 0.0
    assert sum(parts) == pytest.approx(expected, rel=1e-12)


@EVERYWHERE
def test_cells_outside_the_mask_do_not_enter(name, dims, rng):
    case, grid = CASES[name], GRIDS[dims]
    values = draw(case, grid, rng)
    everywhere = np.ones(grid.shape, dtype=bool)
    expected = log_p(case(grid), grid, values)
    assert log_p(case(grid, mask=everywhere), grid, values) == pytest.approx(expected, rel=1e-12)
    mask = everywhere.copy()
    for hole in HOLES[dims]:
        mask[hole] = False
    inputs, build = add(case(grid, mask=mask), grid)
    gradient = pt.grad(next(iter(build.log_priors.values())), inputs)
    for part in pytensor.function(inputs, gradient, mode=UNOPTIMISED)(*values):
        assert np.all(part[~mask] == 0.0)
        assert np.all(part[mask] != 0.0)


@pytest.mark.parametrize("name", [n for n in CASES if "gradient" not in n and n != "guide-face"])
def test_a_mask_leaves_the_coupling_of_the_rest(name, rng):
    """Of a box of cells it is that of a grid of the box, but for the length and the volume."""
    case, axes = CASES[name], {"y": 2.0 * np.arange(6), "x": np.arange(5.0)}
    grid, box = bj.Grid(**axes), (slice(1, 5), slice(0, 3))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[box] = True
    inner = bj.Grid(y=axes["y"][box[0]], x=axes["x"][box[1]])
    values = draw(case, grid, rng)
    longer = np.sqrt(np.prod(grid.extent) / np.prod(inner.extent))
    changes = {"guide": image(grid)[box]} if case.guided else {}
    if not case.least_squares:
        changes["epsilon"] = EDGE["epsilon"] / longer
    power = {CROSS: 4, TV: 1, SPARSITY: 0}[case.kind]
    expected = log_p(case(inner, **changes), inner, [v[box] for v in values])
    found = log_p(case(grid, mask=mask), grid, values)
    share = inner.volumes.sum() / grid.volumes.sum()
    assert found == pytest.approx(expected * share * longer**power, rel=1e-10)


@EVERYWHERE
def test_a_weight_of_zero_is_no_coupling(name, dims, rng):
    case, grid = CASES[name], GRIDS[dims]
    assert log_p(case(grid, weight=0.0), grid, draw(case, grid, rng)) == 0.0


LIFTED = [place for place in PLACES if place[1] != "3-D" and "gradient" not in place[0]]


@pytest.mark.parametrize(("name", "dims"), [p for p in LIFTED if p[0] != "guide-face"])
def test_a_dimension_of_one_cell_does_not_matter(name, dims, rng):
    """Of normalised gradients it moves the floor, as the prior of the fields is another one."""
    case, grid = CASES[name], GRIDS[dims]
    values = draw(case, grid, rng)
    guide = {"guide": image(grid)[:, None]} if case.guided else {}
    first, *others = grid.centres.items()
    lifted = bj.Grid(**dict([first, ("line", np.array([5.0])), *others]))
    found = log_p(case(lifted, **guide), lifted, [v[:, None] for v in values])
    assert found == pytest.approx(log_p(case(grid), grid, values), rel=1e-12)


def smooth(cells, names):
    x = (np.arange(cells) + 0.5) / cells
    grid = bj.Grid(y=2.0 * x, x=3.0 * x)
    y, x = np.meshgrid(*grid.centres.values(), indexing="ij")
    known = {
        "a": np.sin(np.pi * x / 3) * (1 + y / 2),
        "b": np.cos(np.pi * y / 2) + x / 3,
        "c": 10 * np.exp(-x) * y,
    }
    return grid, [known[name] for name in names]


@IN_2D
def test_the_mesh_does_not_matter_for_smooth_fields(case):
    """The distance to the integral shrinks at the stated rate at least, in powers of the cell."""
    found = []
    for cells in (16, 32, 64):
        grid, values = smooth(cells, case.names)
        found.append(log_p(case(grid), grid, values))
    steps = np.diff(found)
    assert abs(steps[1]) < 0.05 * abs(found[-1])
    assert np.log2(abs(steps[0] / steps[1])) > case.rate - 0.35


@pytest.mark.parametrize(("form", "rate"), [("forward", 1), ("central", 2), ("face", 1)])
def test_the_mesh_does_not_matter_for_a_smooth_profile_along_a_guide(form, rate):
    found = []
    for cells in (32, 64, 128):
        x = 3.0 * (np.arange(cells) + 0.5) / cells
        coupling = CROSS("a", guide=np.tanh(3 * (x - 1)), weight=7.0, form=form, floor=0.5)
        found.append(log_p(coupling, bj.Grid(x=x), [np.sin(np.pi * x / 3)]))
    steps = np.diff(found)
    assert abs(steps[1]) < 0.05 * abs(found[-1])
    assert np.log2(abs(steps[0] / steps[1])) > rate - 0.35


@EVERYWHERE
def test_it_survives_pickling(name, dims, rng):
    case, grid = CASES[name], GRIDS[dims]
    mask = rng.random(grid.shape) < 0.8
    coupling = case(grid, mask=mask, weight=np.full(grid.shape, 2.0))
    values = draw(case, grid, rng)
    copy = pickle.loads(pickle.dumps(coupling))
    assert copy.name == coupling.name
    assert log_p(copy, grid, values) == log_p(coupling, grid, values)
