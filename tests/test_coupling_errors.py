"""What structural couplings say where something is missing or does not fit."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from tests.helpers import STANDARD
from tests.test_structural import PLANE

POSITIVE = bj.Prior(pm.HalfNormal, sigma=1.0)
LINE = bj.Grid(x=np.arange(4.0))


def problem_of(coupling, *grids, **prior):
    grids = grids or (PLANE, PLANE)
    prior = {"sd": 1.0, "length_scale": 30.0} | prior
    latents = [bj.GaussianField(n, g, **prior) for n, g in zip("ab", grids, strict=True)]
    return bj.JointProblem(latents=latents, modalities=[], couplings=[coupling])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"CrossGradient\('a', 'b'\): weight is not given; try a few"),
        ({"weight": -1.0}, "weight must be finite and not negative, -1 given"),
        ({"weight": [[-1.0, 2.0]]}, "finite and not negative.*range from -1 to 2"),
        ({"weight": np.zeros((2, 2))}, "some of them positive; they range from 0 to 0"),
        ({"form": "backward"}, r"form 'backward' is unknown; use one of \['central', 'face',"),
        ({"normalisation": "sd"}, "normalisation 'sd' is unknown; use one of"),
        ({"normalisation": "range"}, r"needs the range of \['a', 'b'\]; give scales="),
        ({"scales": {"a": 1.0}}, 'scales are used with normalisation="range" only'),
        ({"scales": {"c": 1.0}}, r"scales names 'c', which is not coupled; there are \['a', 'b'\]"),
        ({"scales": {"a": STANDARD}}, "an unknown scale of 'a' needs the normaliser"),
        ({"floor": 0.0}, "floor must be positive"),
        ({"guide": np.ones((2, 2))}, "give either a second field or guide="),
    ],
)
def test_errors_when_a_cross_gradient_is_made(settings, message):
    if settings and "weight" not in settings:
        settings = {"weight": 1.0, **settings}
    with pytest.raises(ValueError, match=message):
        bj.CrossGradient("a", "b", **settings)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ((), {}, r"JointSparsity\(\): name one field or more"),
        (("a", "a"), {}, "the name 'a' is used twice"),
        (("a",), {"weight": None}, r"JointSparsity\('a'\): weight is not given"),
        (("a",), {"weight": STANDARD}, "weight must be positive, and .* reaches below zero"),
        (("a",), {"weight": POSITIVE}, "an unknown weight needs the normaliser of the coupled"),
        (("a",), {"epsilon": None}, "epsilon is not given; state the gradient"),
        (("a",), {"epsilon": STANDARD}, "an unknown epsilon needs the normaliser"),
        (("a",), {"epsilon": [1.0, 2.0]}, "epsilon must be one number"),
        (("a",), {"epsilon": {"a": 0.3}}, "epsilon must be one number.*give it another scale"),
        (("a",), {"nu": STANDARD}, "an unknown nu needs the normaliser"),
        (("a",), {"nu": 0.0}, "nu must be positive"),
        (("a",), {"form": "ahead"}, "form 'ahead' is unknown"),
        (("a",), {"scales": {"b": 1.0}}, "scales names 'b', which is not coupled"),
    ],
)
def test_errors_when_shared_edges_are_made(names, settings, message):
    settings = {"weight": 1.0, "epsilon": 1.0} | settings
    with pytest.raises(ValueError, match=message):
        bj.JointSparsity(*names, **settings)


def couple(**settings):
    return bj.CrossGradient("a", "b", weight=1.0, **settings)


def test_errors_where_a_coupling_does_not_fit():
    with pytest.raises(ValueError, match="two different fields are needed"):
        bj.CrossGradient("a", "a", weight=1.0)
    with pytest.raises(ValueError, match="cross_gradient_a_c: there is no latent 'c'; there are"):
        problem_of(bj.CrossGradient("a", "c", weight=1.0))
    with pytest.raises(ValueError, match="couplings: the name 'cross_gradient_a_b' is used twice"):
        problem_of(couple()).replace(couplings=[couple(), couple()])
    with pytest.raises(ValueError, match="both latents must be fields on the same grid"):
        problem_of(couple(), PLANE, bj.Grid(y=np.arange(3.0), z=np.arange(3.0)))
    single = bj.Grid(y=np.arange(1.0), x=np.arange(1.0))
    with pytest.raises(ValueError, match="the grid is a single cell; gradients need two or more"):
        problem_of(couple(), single, single)


def test_a_profile_has_no_cross_gradient_but_shares_edges():
    with pytest.raises(ValueError, match="in one it is zero.*JointTotalVariation couples profiles"):
        problem_of(couple(), LINE, LINE)
    line, along = bj.Grid(x=np.arange(4.0), y=np.zeros(1)), np.arange(4.0)[:, None]
    with pytest.raises(ValueError, match="needs two or three dimensions of two cells or more"):
        problem_of(couple(), line, line)
    guided = bj.CrossGradient("a", guide=along, weight=1.0)
    problem_of(guided, line, line)
    with pytest.raises(ValueError, match="compares directions, and on a profile there is one"):
        problem_of(guided.replace(normalisation="gradient"), line, line)
    problem_of(bj.JointTotalVariation("a", "b", weight=1.0, epsilon=1.0), LINE, LINE)


@pytest.mark.parametrize("what", ["mask", "weight", "guide"])
def test_errors_of_arrays_on_the_grid(what):
    def made(array):
        if what == "guide":
            return bj.CrossGradient("a", guide=array, weight=1.0)
        settings = {"weight": 1.0, what: array}
        return bj.JointTotalVariation("a", "b", epsilon=1.0, **settings)

    kind = bool if what == "mask" else float
    with pytest.raises(ValueError, match=rf"the {what}: an array of shape \(2, 2\) given"):
        problem_of(made(np.eye(2, dtype=kind)))
    labelled = xr.DataArray(np.eye(6, 8, dtype=kind), dims=("depth", "time"))
    with pytest.raises(
        ValueError, match=rf"the {what}: an array with the dims \('depth', 'time'\) given"
    ):
        problem_of(made(labelled))
    elsewhere = labelled.rename(time="x").assign_coords(depth=np.arange(6.0))
    with pytest.raises(
        ValueError, match=f"the {what} along 'depth': 5 of 6 labels of the grid are not there"
    ):
        problem_of(made(elsewhere))


def test_a_mask_is_not_a_weight_and_a_guide_is_an_image():
    with pytest.raises(ValueError, match="mask must be True or False, float64 given; numbers go"):
        problem_of(couple(mask=np.ones(PLANE.shape)))
    with pytest.raises(ValueError, match="the guide is the same in all cells"):
        problem_of(bj.CrossGradient("a", guide=np.ones(PLANE.shape), weight=1.0))
    holed = np.where(np.arange(8) == 3, np.nan, np.arange(8.0)) * np.ones((6, 1))
    with pytest.raises(ValueError, match="not finite in every cell that takes part; fill it, or"):
        problem_of(bj.CrossGradient("a", guide=holed, weight=1.0))
    problem_of(bj.CrossGradient("a", guide=holed, weight=1.0, mask=np.isfinite(holed)))
    named = xr.DataArray(holed, dims=PLANE.dims, name="two words")
    with pytest.raises(ValueError, match="'two words': the name must be a word of letters"):
        bj.CrossGradient("a", guide=named, weight=1.0)


EDGES = bj.JointTotalVariation("a", "b", weight=1.0, epsilon=1.0)
EVERY_SECOND = (np.indices(PLANE.shape).sum(0) % 2).astype(bool)
ONE_ROW, UPPER = np.indices(PLANE.shape)[0] == 2, np.indices(PLANE.shape)[0] < 3


@pytest.mark.parametrize("coupling", [couple(), EDGES], ids=["cross", "edges"])
def test_a_coupling_that_no_cell_can_feel_is_refused(coupling):
    for mask, message in [
        (np.zeros(PLANE.shape, dtype=bool), "the mask is False in all cells"),
        (EVERY_SECOND, "no cell that takes part has .* inside the mask"),
    ]:
        with pytest.raises(ValueError, match=f"{coupling.name}: {message}"):
            problem_of(coupling.replace(mask=mask))
    with pytest.raises(ValueError, match="the weights are zero in every cell that takes part"):
        problem_of(coupling.replace(mask=UPPER, weight=1.0 * ~UPPER))


def test_a_row_of_cells_shares_edges_but_has_no_cross_gradient():
    problem_of(EDGES.replace(mask=ONE_ROW))
    with pytest.raises(ValueError, match="has neighbours along two dimensions inside the mask"):
        problem_of(couple(mask=ONE_ROW))
    apart = np.where(ONE_ROW, 1.0, 0.0)
    mask = np.abs(np.indices(PLANE.shape)[0] - 2) != 1
    with pytest.raises(ValueError, match="the guide is the same in all cells that are neighbours"):
        problem_of(bj.CrossGradient("a", guide=apart, weight=1.0, mask=mask))
