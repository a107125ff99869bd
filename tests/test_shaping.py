"""Couplings that shape the prior of fields: one battery runs each through what all share.

None of them has a mask or a weight.  Draws, reports and unknown settings are tested in
`test_joint_priors` and `test_mixture`, potentials in `test_couplings`.
"""

import pickle
from functools import cache

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.gradient import jacobian
from scipy.optimize import root
from scipy.stats import norm

import bayesjoint as bj
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import INTERPRETED
from tests.structural import GRIDS

MATRIX = np.array([[1.0, -0.8, 0.3], [-0.8, 1.0, 0.1], [0.3, 0.1, 1.0]])
MEANS = {"a": np.array([-1.0, 2.0]), "b": np.array([3.0, 0.0])}
SPREADS = {"a": np.array([0.9, 0.6]), "b": np.array([0.8, 0.7])}
SD = {"a": 2.0, "b": 0.5, "c": 10.0}


def bent(a, slope):
    return pt.sinh(slope * a / SD["a"])


def product(a, b):
    return a * b / SD["b"]


def turned_product(b, a):
    return product(a, b)


def rocks(names):
    return bj.PropertyMixture(
        "rocks", labels=["salt", "clay"], proportions=[0.4, 0.6], correlation=[0.5, -0.3],
        means={n: MEANS[n] for n in names}, sds={n: SPREADS[n] for n in names},
    )  # fmt: skip


def three(names):
    index = ["abc".index(n) for n in names]
    return bj.CorrelatedFields(*names, correlation=MATRIX[np.ix_(index, index)])


def relation(names):
    function = product if names[0] == "a" else turned_product
    return bj.PropertyRelation("c", given=tuple(names[:2]), function=function)


# Names of the fields in both orders, and the coupling of fields in some order.
CASES = {
    "correlated": (("ab", "ba"), lambda names: bj.CorrelatedFields(*names, correlation=-0.6)),
    "correlated-three": (("abc", "bca"), three),
    "relation": (
        ("ab", "ba"),
        lambda names: bj.PropertyRelation(
            "b", given="a", function=bent, coefficients={"slope": 0.7}
        ),
    ),
    "relation-of-two": (("abc", "bac"), relation),
    "mixture": (("ab", "ba"), rocks),
}
PLACES = pytest.mark.parametrize(
    ("case", "dims"), [(case, dims) for case in CASES for dims in GRIDS]
)
ALL = pytest.mark.parametrize("case", CASES)


def fields_of(case, names, grid):
    sd = dict.fromkeys("ab", 1.0) if case == "mixture" else SD
    return [bj.GaussianField(n, grid, sd=sd[n], length_scale=2.0) for n in names]


def add(case, grid, order=0, coupling=None):
    """Return white variables and properties, in the order of the names of the fields."""
    names, make = CASES[case]
    made = ModelBuild(pm.Model())
    with made.model:
        made.add_latents(fields_of(case, names[order], grid), [coupling or make(names[order])])
    return [[found[n] for n in sorted(names[0])] for found in (made.whites, made.values)]


@cache
def compiled(case, dims, order=0, apart=1.0):
    """Return ``whites -> (properties, Jacobian)``, flat, in the order of the names."""
    grid = bj.Grid(**{dim: apart * centres for dim, centres in GRIDS[dims].centres.items()})
    whites, values = add(case, grid, order)
    size = GRIDS[dims].size
    stacked = pt.concatenate([value.ravel() for value in values])
    parts = [jacobian(stacked, w, vectorize=True).reshape((-1, size)) for w in whites]
    function = pytensor.function(whites, [stacked, pt.concatenate(parts, 1)], mode=INTERPRETED)
    return lambda flat: function(*flat.reshape(len(whites), *GRIDS[dims].shape))


def values_of(case, grid, whites, **settings):
    return pytensor.function(*add(case, grid, **settings), mode=INTERPRETED)(*whites)


def draw(case, grid, seed=1):
    names = CASES[case][0][0]
    return np.random.default_rng(seed).standard_normal((len(names), *grid.shape))


@PLACES
def test_gradient_agrees_with_finite_differences(case, dims):
    function, flat, step = compiled(case, dims), draw(case, GRIDS[dims]).ravel(), 1e-6
    _, found = function(flat)
    for i, unit in enumerate(step * np.eye(flat.size)):
        expected = (function(flat + unit)[0] - function(flat - unit)[0]) / (2 * step)
        np.testing.assert_allclose(
            found[:, i], expected, rtol=1e-5, atol=1e-6 * np.abs(found).max()
        )


@PLACES
def test_the_order_of_the_dimensions_does_not_matter(case, dims):
    grid = GRIDS[dims]
    turned = bj.Grid(**dict(reversed(grid.centres.items())))
    whites = draw(case, grid)
    found = values_of(case, turned, [w.T for w in whites])
    for a, b in zip(found, values_of(case, grid, whites), strict=True):
        np.testing.assert_allclose(a.T, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())


def log_density(function, flat):
    """Return that of the properties at white coordinates."""
    return norm.logpdf(flat).sum() - np.linalg.slogdet(function(flat)[1])[1]


@PLACES
def test_the_order_of_the_properties_does_not_matter(case, dims):
    """The density of the same properties is the same, at other white coordinates.

    Of a mixture in every cell by itself: the fields behind a property are not the same ones when
    it comes first.
    """
    apart = 1e6 if case == "mixture" else 1.0
    first, second = (compiled(case, dims, order, apart) for order in (0, 1))
    flat = 0.5 * draw(case, GRIDS[dims]).ravel()
    goal, scale = first(flat)[0], np.abs(first(flat)[1]).max()

    def missed(z):
        value, slope = second(z)
        return (value - goal) / scale, slope / scale

    solved = root(missed, flat, jac=True, tol=1e-13)
    assert np.abs(missed(solved.x)[0]).max() < 1e-9
    assert log_density(second, solved.x) == pytest.approx(log_density(first, flat), rel=1e-6)


@ALL
def test_the_mesh_does_not_matter(case):
    """What the properties of a cell are depends on the standard fields in that cell alone."""
    found = []
    for cells in (5, 9):  # every second cell of the finer grid is one of the coarser
        grid = bj.Grid(y=np.array([0.0, 1.0]), x=np.linspace(0.0, 4.0, cells))
        y, x = np.meshgrid(*grid.centres.values(), indexing="ij")
        smooth = [np.sin(x + k) + 0.3 * k * y for k in range(len(CASES[case][0][0]))]
        names = sorted(CASES[case][0][0])
        whites = [
            np.linalg.solve(f.factor({}).times(np.eye(grid.size)), f.sd * s.ravel())
            for f, s in zip(fields_of(case, names, grid), smooth, strict=True)
        ]
        found.append(values_of(case, grid, [w.reshape(grid.shape) for w in whites]))
    for coarse, fine in zip(*found, strict=True):
        np.testing.assert_allclose(fine[:, ::2], coarse, rtol=1e-8, atol=1e-8)


@PLACES
def test_it_survives_pickling(case, dims):
    names, make = CASES[case]
    coupling, whites = make(names[0]), draw(case, GRIDS[dims])
    copy = pickle.loads(pickle.dumps(coupling))
    assert copy.name == coupling.name
    again = values_of(case, GRIDS[dims], whites, coupling=copy)
    for a, b in zip(again, values_of(case, GRIDS[dims], whites), strict=True):
        np.testing.assert_array_equal(a, b)


def moments_of_rocks():
    """Return the correlation of the two properties over all units."""
    share, within = np.array([0.4, 0.6]), np.array([0.5, -0.3])
    mean = {n: share @ MEANS[n] for n in "ab"}
    variance = {n: share @ (SPREADS[n] ** 2 + MEANS[n] ** 2) - mean[n] ** 2 for n in "ab"}
    mixed = share @ (within * SPREADS["a"] * SPREADS["b"] + MEANS["a"] * MEANS["b"])
    return (mixed - mean["a"] * mean["b"]) / np.sqrt(variance["a"] * variance["b"])


# For z standard, E[z sinh(s z)] = s exp(s^2 / 2) and Var sinh(s z) = (exp(2 s^2) - 1) / 2.
BENT = 0.7 * np.exp(0.245) / np.sqrt((np.exp(0.98) - 1) / 2 + SD["b"] ** 2)
CORRELATIONS = {
    "correlated": [-0.6],
    "correlated-three": [-0.8, 0.3, 0.1],
    "relation": [BENT],
    "relation-of-two": [0.0, 0.0, 0.0],
    "mixture": [moments_of_rocks()],
}


@ALL
def test_draws_of_the_prior_have_the_correlation_of_theory(case):
    """In cells that are far apart, so that all count."""
    grid, (names, make) = bj.Grid(x=1_000.0 * np.arange(25.0)), CASES[case]
    problem = bj.JointProblem(
        latents=fields_of(case, names[0], grid), modalities=[], couplings=[make(names[0])]
    )
    model = bj.build_model(problem)
    drawn = pm.draw(
        [model[n] for n in sorted(names[0])], draws=100, random_seed=3, mode=INTERPRETED
    )
    found = np.corrcoef([np.ravel(values) for values in drawn])
    index = np.triu_indices(len(found), 1)
    # Errors are about 1 / 50, of 2,500 cells; sinh and products have longer tails.
    np.testing.assert_allclose(found[index], CORRELATIONS[case], atol=4 / 50)
