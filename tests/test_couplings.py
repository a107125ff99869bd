"""Couplings: one fixture runs every form through the properties that all share."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytensor
import pytest

import bayesjoint as bj
from bayesjoint._compile import INTERPRETED
from bayesjoint.problem import build
from tests.helpers import gradient_and_differences, log_density

GRIDS = {
    "2-D": bj.Grid(depth=np.arange(5.0, 60.0, 10.0), x=np.arange(0.0, 160.0, 20.0)),
    "2-D uneven": bj.Grid(
        depth=np.array([1.0, 2.0, 4.0, 8.0, 16.0]), x=np.sqrt(np.arange(1.0, 8.0))
    ),
    "3-D uneven": bj.Grid(
        x=np.array([0.0, 1.0, 3.0, 4.0]), y=np.arange(3.0), z=np.arange(5.0) ** 1.5
    ),
}
WEIGHT = 7.0


@dataclass(frozen=True)
class Form:
    """A coupling between two fields on one grid."""

    name: str
    grid: bj.Grid

    def coupling(self, weight=WEIGHT, mask=None):
        return bj.CrossGradient("a", "b", weight=weight, form=self.name, mask=mask)

    def model(self, sd=(2.0, 0.5), grid=None, **settings):
        grid = grid or self.grid
        scale = 0.3 * max(grid.extent)
        fields = [
            bj.GaussianField(name, grid, sd=s, length_scale=scale)
            for name, s in zip("ab", sd, strict=True)
        ]
        coupling = self.coupling(**settings)
        return build(bj.JointProblem(latents=fields, modalities=[], couplings=[coupling]))

    def log_p(self, a, b, **settings):
        """Return the log-density of the coupling for two fields in physical units."""
        made = self.model(**settings)
        inputs = [made.values["a"], made.values["b"]]
        output = made.log_priors["cross_gradient_a_b"]
        return float(pytensor.function(inputs, output, mode=INTERPRETED)(a, b))


@pytest.fixture(params=GRIDS)
def grid(request):
    return GRIDS[request.param]


@pytest.fixture(params=["forward", "central"])
def form(request, grid):
    return Form(request.param, grid)


def fields(form, rng):
    return rng.normal(size=(2, *form.grid.shape)) * np.array([2.0, 0.5]).reshape(
        2, *[1] * len(form.grid.dims)
    )


def gradient(values, grid, form):
    """Gradients along each axis, written without matrices."""
    parts = []
    for axis, centres in enumerate(grid.centres.values()):
        if form == "central":
            parts.append(np.gradient(values, centres, axis=axis))
            continue
        steps = np.diff(centres).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        part = np.diff(values, axis=axis) / steps
        parts.append(np.concatenate([part, np.take(part, [-1], axis=axis)], axis=axis))
    return np.stack(parts)


def direct(a, b, grid, form, sd=(2.0, 0.5), weight=WEIGHT):
    """Return the formula of the docstring."""
    length = np.prod(grid.extent) ** (1 / len(grid.dims))
    first, second = (length * gradient(v / s, grid, form) for v, s in zip((a, b), sd, strict=True))
    pairs = combinations(range(len(grid.dims)), 2)
    squared = sum((first[i] * second[j] - first[j] * second[i]) ** 2 for i, j in pairs)
    return -0.5 * weight * (grid.volumes / grid.volumes.sum() * squared).sum()


def test_value_is_that_of_the_formula(form, rng):
    a, b = fields(form, rng)
    assert form.log_p(a, b) == pytest.approx(direct(a, b, form.grid, form.name), rel=1e-12)


def test_parallel_gradients_cost_nothing(form, rng):
    a, b = fields(form, rng)
    unlike = form.log_p(a, b)
    assert unlike < -1.0
    assert abs(form.log_p(a, 3.0 - 0.2 * a)) < 1e-20 * abs(unlike)
    assert abs(form.log_p(a, np.full_like(a, 4.0))) < 1e-20 * abs(unlike)


def test_fields_that_vary_along_one_axis_cost_nothing(form, rng):
    a, b = fields(form, rng)
    first = (slice(0, 1),) * (a.ndim - 1)
    layered = [np.broadcast_to(v[first], v.shape) for v in (a, b)]
    assert abs(form.log_p(*layered)) < 1e-20 * abs(form.log_p(a, b))


def test_it_is_symmetric(form, rng):
    a, b = fields(form, rng)
    swapped = form.log_p(b, a, sd=(0.5, 2.0))
    assert swapped == pytest.approx(form.log_p(a, b), rel=1e-12)


def test_units_of_the_properties_do_not_matter(form, rng):
    a, b = fields(form, rng)
    in_other_units = form.log_p(1_000 * a, b / 60, sd=(2_000.0, 0.5 / 60))
    assert in_other_units == pytest.approx(form.log_p(a, b), rel=1e-12)


def test_units_of_the_coordinates_do_not_matter(form, rng):
    a, b = fields(form, rng)
    kilometres = bj.Grid(**{dim: centres / 1_000 for dim, centres in form.grid.centres.items()})
    assert form.log_p(a, b, grid=kilometres) == pytest.approx(form.log_p(a, b), rel=1e-10)


def test_a_precision_gives_the_same_coupling_as_the_covariance_it_inverts(form, rng):
    a, b = fields(form, rng)
    size = form.grid.size
    latents = [
        bj.GaussianField(n, form.grid, precision=np.eye(size) / s**2)
        for n, s in [("a", 2.0), ("b", 0.5)]
    ]
    problem = bj.JointProblem(latents=latents, modalities=[], couplings=[form.coupling()])
    made = build(problem)
    inputs = [made.values["a"], made.values["b"]]
    output = made.log_priors["cross_gradient_a_b"]
    found = pytensor.function(inputs, output, mode=INTERPRETED)(a, b)
    assert found == pytest.approx(form.log_p(a, b), rel=1e-10)


def test_it_is_proportional_to_the_weight(form, rng):
    a, b = fields(form, rng)
    assert form.log_p(a, b, weight=3 * WEIGHT) == pytest.approx(3 * form.log_p(a, b), rel=1e-12)


def test_a_mask_limits_it_to_its_cells(form, rng):
    a, b = fields(form, rng)
    mask = rng.random(form.grid.shape) < 0.5
    parts = [form.log_p(a, b, mask=m) for m in (mask, ~mask)]
    assert max(parts) < 0.0
    assert sum(parts) == pytest.approx(form.log_p(a, b), rel=1e-12)
    assert form.log_p(a, b, mask=np.zeros(form.grid.shape, dtype=bool)) == 0.0


def test_the_potential_is_minus_half_the_squared_residual(form, rng):
    made = form.model()
    (potential,) = made.model.potentials
    residual = made.residuals["cross_gradient_a_b"]
    white = {f"{name}_white": rng.normal(size=form.grid.shape) for name in "ab"}
    function = pytensor.function(made.model.free_RVs, [potential, residual], mode=INTERPRETED)
    value, parts = function(*white.values())
    assert value == pytest.approx(-0.5 * np.sum(parts**2), rel=1e-12)
    assert parts.ndim == 1
    prior = -0.5 * sum(np.sum(w**2 + np.log(2 * np.pi)) for w in white.values())
    assert log_density(made.model)(**white) == pytest.approx(prior + value, rel=1e-10)


def test_gradient_agrees_with_finite_differences(form, rng):
    made = form.model(weight=0.1)
    white = {f"{name}_white": 0.3 * rng.normal(size=form.grid.shape) for name in "ab"}
    found, differences = gradient_and_differences(made.model, **white)
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["forward", "central"])
def test_the_mesh_does_not_matter_for_smooth_fields(name):
    """phi changes by less than 5 % when cells are halved, and tends to the integral."""

    def log_p(cells):
        x = (np.arange(cells) + 0.5) / cells
        grid = bj.Grid(y=2.0 * x, x=3.0 * x)
        y, x = np.meshgrid(*grid.centres.values(), indexing="ij")
        a, b = np.sin(np.pi * x / 3) * (1 + y / 2), np.cos(np.pi * y / 2) + x / 3
        return Form(name, grid).log_p(a, b, sd=(1.0, 1.0), weight=1.0)

    coarse, fine = log_p(24), log_p(48)
    assert fine == pytest.approx(coarse, rel=0.05)
    # With u = x/3 and v = y/2 on the unit square: length^2 = 6, so t = da/du db/dv - da/dv db/du.
    middle = (np.arange(2_000) + 0.5) / 2_000
    u, v = middle, middle[:, None]
    t = -np.pi * np.cos(np.pi * u) * (1 + v) * np.pi * np.sin(np.pi * v) - np.sin(np.pi * u)
    assert fine == pytest.approx(-0.5 * np.mean(t**2), rel=0.03)


LINE = bj.Grid(x=np.arange(4.0))
PLANE = GRIDS["2-D"]


def problem_of(coupling, first=None, second=None):
    fixed = {"sd": 1.0, "length_scale": 30.0}
    latents = [
        bj.GaussianField("a", **(first or {"grid": PLANE, **fixed})),
        bj.GaussianField("b", **(second or {"grid": PLANE, **fixed})),
    ]
    return bj.JointProblem(latents=latents, modalities=[], couplings=[coupling])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"CrossGradient\('a', 'b'\): weight is not given; try a few"),
        ({"weight": -1.0}, "weight must be positive, the smallest given is -1"),
        (
            {"weight": 1.0, "form": "backward"},
            r"form 'backward' is unknown; use one of \['central'",
        ),
    ],
)
def test_errors_when_a_coupling_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        bj.CrossGradient("a", "b", **settings)


def test_errors_where_a_coupling_does_not_fit():
    couple = bj.CrossGradient("a", "b", weight=1.0)
    with pytest.raises(ValueError, match="two different fields are needed"):
        bj.CrossGradient("a", "a", weight=1.0)
    with pytest.raises(ValueError, match="cross_gradient_a_c: there is no latent 'c'; there are"):
        problem_of(bj.CrossGradient("a", "c", weight=1.0))
    line = {"grid": LINE, "sd": 1.0, "length_scale": 2.0}
    with pytest.raises(ValueError, match="needs two or three dimensions; in one it is zero"):
        problem_of(couple, line, line)
    with pytest.raises(ValueError, match="both latents must be fields on the same grid"):
        problem_of(
            couple,
            second={
                "grid": bj.Grid(y=np.arange(3.0), z=np.arange(3.0)),
                "sd": 1.0,
                "length_scale": 1.0,
            },
        )
    with pytest.raises(ValueError, match=r"the mask has shape \(2, 2\), the grid \(6, 8\)"):
        problem_of(bj.CrossGradient("a", "b", weight=1.0, mask=np.ones((2, 2))))
    with pytest.raises(ValueError, match="couplings: the name 'cross_gradient_a_b' is used twice"):
        problem_of(couple).replace(couplings=[couple, couple])
