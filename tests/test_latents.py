"""Latents: the exact covariance ``L L^T`` of fields, and parameters.

Covariances come from the model's own map applied to unit white vectors: no sampling.
"""

import numpy as np
import pymc as pm
import pytest
from scipy import sparse

import bayesjoint as bj
from bayesjoint._kernels.matern import matern_correlation
from bayesjoint.problem import build
from tests.helpers import STANDARD, correlation_of, evaluator, field_covariance

UNEVEN = np.array([0.0, 1.0, 2.5, 4.0, 7.0, 12.0, 20.0])
GRIDS = {
    "1-D": bj.Grid(x=np.arange(0.0, 30.0, 1.5)),
    "1-D uneven": bj.Grid(x=UNEVEN),
    "2-D": bj.Grid(depth=np.arange(6.0), x=np.arange(0.0, 16.0, 2.0)),
    "2-D uneven": bj.Grid(depth=UNEVEN, x=np.sqrt(np.arange(1.0, 9.0))),
    "3-D": bj.Grid(x=np.arange(4.0), y=np.arange(3.0), z=np.arange(5.0)),
    "3-D uneven": bj.Grid(x=UNEVEN[:4], y=UNEVEN[:3], z=UNEVEN[:5]),
    "one cell thick": bj.Grid(depth=[10.0], x=UNEVEN),
}


@pytest.fixture(params=GRIDS)
def grid(request):
    return GRIDS[request.param]


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("length_scale", [0.7, 5.0])
def test_stated_sd_holds_in_every_cell(grid, smoothness, length_scale):
    """The contract is 5 %, up to the edges; the scaling makes it exact."""
    field = bj.GaussianField(
        "density", grid, sd=200.0, length_scale=length_scale, smoothness=smoothness
    )
    sd = np.sqrt(np.diag(field_covariance(field)))
    np.testing.assert_allclose(sd, 200.0, rtol=1e-10)


def test_unknown_sd_and_length_scale_at_a_value_give_the_field_of_that_value(grid):
    def logarithmic(median):
        return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=0.5)

    field = bj.GaussianField("density", grid, sd=logarithmic(2.0), length_scale=logarithmic(3.0))
    found = field_covariance(field, density_sd_white=0.8, density_length_scale_white=-0.6)
    fixed = bj.GaussianField(
        "density", grid, sd=2.0 * np.exp(0.5 * 0.8), length_scale=3.0 * np.exp(-0.5 * 0.6)
    )
    np.testing.assert_allclose(found, field_covariance(fixed), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), 2.0 * np.exp(0.4), rtol=1e-10)


def centre_row(spacing, smoothness):
    """Correlation of the centre of [0, 400] with the 60 units beside it, length scale 20."""
    x = np.arange(0.0, 400.0 + spacing / 2, spacing)
    field = bj.GaussianField("f", bj.Grid(x=x), sd=1.0, length_scale=20.0, smoothness=smoothness)
    middle = x.size // 2
    return x[middle:] - x[middle], field_covariance(field)[middle, middle:]


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
def test_correlation_is_matern_in_one_dimension_to_second_order_in_the_spacing(smoothness):
    worst = []
    for spacing in (2.0, 1.0):  # a tenth and a twentieth of the length scale
        distance, found = centre_row(spacing, smoothness)
        near = distance <= 60.0
        expected = matern_correlation(distance[near] / 20.0, smoothness)
        worst.append(np.abs(found[near] - expected).max())
    assert worst[1] < 1e-3
    assert 3.5 < worst[0] / worst[1] < 4.5


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
def test_correlation_is_matern_in_two_dimensions(smoothness):
    """Cells of a fifth of the length scale, three length scales from the edges: within 0.03."""
    axis = np.arange(31.0)
    grid = bj.Grid(y=axis, x=axis)
    field = bj.GaussianField("f", grid, sd=1.0, length_scale=5.0, smoothness=smoothness)
    centre = field_covariance(field).reshape(31, 31, 31, 31)[15, 15]
    distance = np.hypot(axis[:, None] - 15.0, axis - 15.0)
    near = distance <= 10.0
    expected = matern_correlation(distance[near] / 5.0, smoothness)
    np.testing.assert_allclose(centre[near], expected, atol=0.03)


def test_correlations_are_higher_at_an_edge_as_documented():
    grid = bj.Grid(x=np.arange(100.0))
    covariance = field_covariance(bj.GaussianField("f", grid, sd=1.0, length_scale=10.0))
    assert covariance[0, 10] == pytest.approx(0.61, abs=0.01)
    assert covariance[50, 60] == pytest.approx(0.48, abs=0.01)


def test_a_mapping_of_length_scales_makes_the_field_anisotropic():
    grid = bj.Grid(depth=np.arange(21.0), x=np.arange(41.0))
    field = bj.GaussianField("f", grid, sd=1.0, length_scale={"x": 8.0, "depth": 4.0})
    centre = field_covariance(field).reshape(21, 41, 21, 41)[10, 20]
    # A step of two cells along x is as far as one of one cell in depth.
    np.testing.assert_allclose(centre[10, 20:30:2], centre[10:15, 20], atol=0.02)
    assert centre[10, 24] > centre[14, 20] + 0.2


@pytest.mark.parametrize("fine_points", [np.array([-0.5, 0.0, 0.5]), np.array([-0.4, 0.0, 0.4])])
def test_correlations_do_not_depend_on_the_mesh(fine_points):
    """Each cell is cut in three; its centre stays a centre, and correlations move by < 0.03."""
    coarse = 1.5 * np.arange(20.0)
    fine = (coarse[:, None] + fine_points).ravel()
    covariances = [
        field_covariance(bj.GaussianField("f", bj.Grid(x=x), sd=3.0, length_scale=6.0))
        for x in (coarse, fine)
    ]
    refined = covariances[1][1::3, 1::3]
    np.testing.assert_allclose(correlation_of(refined), correlation_of(covariances[0]), atol=0.03)
    np.testing.assert_allclose(np.diag(refined), 9.0, rtol=1e-10)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_a_given_precision_is_the_inverse_covariance(form, rng):
    grid = bj.Grid(y=np.arange(3.0), x=np.arange(4.0))
    root = rng.normal(size=(12, 12))
    precision = root @ root.T + np.eye(12)
    field = bj.GaussianField("f", grid, precision=form(precision))
    np.testing.assert_allclose(field_covariance(field) @ precision, np.eye(12), atol=1e-10)


def test_the_mean_may_be_a_number_an_array_or_unknown():
    grid = bj.Grid(x=UNEVEN)
    for mean, expected in [(2.5e-4, np.full(7, 2.5e-4)), (UNEVEN, UNEVEN)]:
        field = bj.GaussianField("f", grid, sd=1.0, length_scale=3.0, mean=mean)
        made = build(bj.JointProblem(latents=[field], modalities=[]))
        np.testing.assert_allclose(evaluator(made, made.values["f"])(), expected, rtol=1e-12)
    prior = bj.Prior(pm.Normal, mu=10.0, sigma=2.0)
    field = bj.GaussianField("f", grid, sd=1.0, length_scale=3.0, mean=prior)
    made = build(bj.JointProblem(latents=[field], modalities=[]))
    values = evaluator(made, made.values["f"])(f_mean_white=-1.0)
    np.testing.assert_allclose(values, 8.0)
    assert [(u.name, u.kind) for u in made.unknowns] == [
        ("f_mean", "hyperparameter"),
        ("f", "latent"),
    ]


def test_the_field_keeps_the_dims_and_coordinates_of_its_grid():
    grid = bj.Grid(depth=[5.0, 15.0], x=[0.0, 1.0, 2.0])
    field = bj.GaussianField("density", grid, sd=1.0, length_scale=3.0)
    model = bj.build_model(bj.JointProblem(latents=[field], modalities=[]))
    assert model.named_vars_to_dims["density"] == ("depth", "x")
    assert model.coords["depth"] == (5.0, 15.0)
    assert model.named_vars_to_dims["density_white"] == ("density_mode_depth", "density_mode_x")


def test_a_vector_parameter_is_labelled_along_its_dimension():
    prior = bj.Prior(pm.Normal, mu=[1.0, 2.0], sigma=0.1)
    gain = bj.Parameter("gain", prior, coords={"channel": ["a", "b"]})
    made = build(bj.JointProblem(latents=[gain], modalities=[]))
    assert made.model.named_vars_to_dims["gain"] == ("channel",)
    assert made.model.coords["channel"] == ("a", "b")
    values = evaluator(made, made.values["gain"])(gain_white=[1.0, -1.0])
    np.testing.assert_allclose(values, [1.1, 1.9])


GRID = bj.Grid(depth=np.arange(2.0), x=np.arange(3.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length_scale": 1.0}, "sd is not given; state how far it may vary a priori"),
        ({"sd": 1.0}, "length_scale is not given; state over what distance"),
        ({"sd": -2.0, "length_scale": 1.0}, "sd must be positive, the smallest given is -2"),
        ({"sd": np.nan, "length_scale": 1.0}, "sd is not finite; give a positive number"),
        ({"sd": [1.0, 2.0], "length_scale": 1.0}, "sd must be one number or a prior"),
        ({"sd": 1.0, "length_scale": 0.0}, "length_scale must be positive"),
        ({"sd": 1.0, "length_scale": [1.0, 2.0]}, "length_scale must be one number or a prior"),
        ({"sd": 1.0, "length_scale": {"x": 1.0}}, r"length_scale names \['x'\], the grid has"),
        ({"sd": 1.0, "length_scale": {"x": 1.0, "depth": -1.0}}, "length_scale must be positive"),
        (
            {"sd": 1.0, "length_scale": 1.0, "mean": np.zeros(3)},
            r"mean: an array of shape \(3,\) given",
        ),
        ({"sd": 1.0, "length_scale": 1.0, "mean": np.nan}, "the mean is not finite"),
        ({"sd": 1.0, "length_scale": 1.0, "smoothness": 0.0}, "smoothness must be positive"),
        ({"precision": np.eye(6), "sd": 1.0}, "give either precision, or sd and length_scale"),
        ({"precision": np.eye(5)}, r"precision: a matrix of shape \(5, 5\)"),
        ({"precision": -np.eye(6)}, "not positive definite, its smallest eigenvalue is -1"),
        ({"precision": np.triu(np.ones((6, 6)))}, "not symmetric; use"),
    ],
)
def test_field_errors(settings, message):
    with pytest.raises(ValueError, match=f"GaussianField 'f': .*{message}"):
        bj.GaussianField("f", GRID, **settings)


def test_other_errors():
    with pytest.raises(ValueError, match="the grid must be a bj.Grid, list given"):
        bj.GaussianField("f", [1.0, 2.0], sd=1.0, length_scale=1.0)
    with pytest.raises(ValueError, match="'my field': the name must be a word"):
        bj.GaussianField("my field", GRID, sd=1.0, length_scale=1.0)
    with pytest.raises(ValueError, match="Parameter 'a': 3.0 is not a prior; write bj.Prior"):
        bj.Parameter("a", 3.0)
    with pytest.raises(ValueError, match="Parameter '1a': the name must be a word"):
        bj.Parameter("1a", STANDARD)


@pytest.mark.parametrize("coords", [{}, {"channel": ["a", "b", "c"]}])
def test_the_shape_of_a_prior_must_fit_the_coordinates(coords):
    pair = bj.Parameter("gain", bj.Prior(pm.Normal, mu=[1.0, 2.0], sigma=0.1), coords=coords)
    with pytest.raises(
        ValueError, match=r"'gain': its prior has shape \(2,\), .* coords= with one"
    ):
        bj.JointProblem(latents=[pair], modalities=[])
