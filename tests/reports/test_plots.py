import sys

import numpy as np
import pytest
import xarray as xr

from bayesjoint import plots
from bayesjoint.plots import _data, _fields, _style, fit
from bayesjoint.reports.example import example_tree
from tests.reports import factory

EVERYWHERE = [
    "balance",
    "resolution",
    "spectrum",
    "information",
    "leakage",
    "identifiability",
    "posterior",
]
SAMPLED = ["diagnostics", "fit", "predictive_check"]


@pytest.fixture(scope="module")
def tree():
    return factory.tree(factory.make(), draws=60)


@pytest.fixture(scope="module")
def only_linear():
    return factory.preview(factory.make(coupled=True))


def drawn(figure):
    """Render, so that layout problems show; return what is written on it."""
    figure.canvas.draw()
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    return [text.get_text() for text in texts]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", EVERYWHERE + SAMPLED)
def test_every_figure_of_a_posterior(tree, name):
    texts = drawn(getattr(plots, f"plot_{name}")(tree))
    assert any(texts)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_figure_of_a_preview_and_of_points(only_linear, pair, name):
    for dt in (only_linear, factory.at_points(pair)):
        drawn(getattr(plots, f"plot_{name}")(dt))


@pytest.mark.filterwarnings("error")
def test_discrepancy_is_drawn_along_the_data_and_on_maps():
    few = example_tree(discrepancy=0.4)
    assert "gravity" in drawn(plots.plot_discrepancy(few))
    rng, places = np.random.default_rng(0), np.random.default_rng(1).uniform(0, 9e3, (2, 60))
    coords = {k: ("station", v, {"units": "m"}) for k, v in zip(("x", "y"), places, strict=True)}
    at = ("chain", "draw", "station")
    draws = xr.Dataset(
        {
            "gravity_response": (at, np.zeros((1, 30, 60))),
            "gravity_discrepancy": (at, places[0] / 1e3 + 0.1 * rng.standard_normal((1, 30, 60))),
        },
        coords,
    )
    data = xr.Dataset({"gravity": ("station", np.zeros(60), {"units": "m/s2"})}, coords)
    many = xr.DataTree.from_dict({"posterior": draws, "observed_data": data})
    figure = plots.plot_discrepancy(many)
    assert {"posterior mean", "posterior sd", "x [km]", "m/s²"} <= set(drawn(figure))
    mean, sd = (axes.collections[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_allclose(mean, places[0] / 1e3, atol=0.1)  # 5 standard errors
    np.testing.assert_allclose(sd, 0.1, atol=0.065)


def test_discrepancy_that_was_not_drawn_is_refused():
    with pytest.raises(ValueError, match="no discrepancy to draw"):
        plots.plot_discrepancy(example_tree())


def test_point_spread_marks_the_cell(tree):
    texts = drawn(plots.plot_point_spread(tree, "density", depth=150.0, x=100.0))
    assert any("density at depth = 150, x = 100" in text for text in texts)
    drawn(plots.plot_point_spread(tree, "depth_to_top"))


def test_compromise_is_drawn(tree):
    alone = {"gravity": factory.preview(factory.make())}
    assert "gravity" in drawn(plots.plot_compromise(tree, alone))


@pytest.mark.filterwarnings("error")
def test_compromise_of_a_shared_profile_and_of_latents_that_nothing_shares():
    from dataclasses import replace

    joint = factory.make()
    alone = {
        k: factory.preview(replace(joint, jacobian={k: joint.jacobian[k]})) for k in joint.jacobian
    }
    texts = drawn(plots.plot_compromise(factory.preview(joint), alone))
    assert "separate models averaged" in texts and "density: gravity alone" in texts
    profiles = {
        name: xr.DataTree.from_dict(
            {"linearization": profile_of(tree["linearization"].to_dataset())}
        )
        for name, tree in {"": factory.preview(joint), **alone}.items()
    }
    texts = drawn(plots.plot_compromise(profiles.pop(""), profiles))
    assert "density: estimates, and one sd" in texts
    texts = drawn(plots.plot_compromise(factory.preview(joint), {"gravity": alone["gravity"]}))
    assert "separate models averaged" not in texts


def profile_of(ds):
    """Lay the field of the factory on one dim."""
    flat = xr.DataArray(ds["density"].values.ravel(), {"depth": 10.0 * np.arange(12)}, ("depth",))
    return ds.drop_vars(["density", "x", "depth"]).assign(density=flat)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dims", [("depth", "x"), ("y", "depth", "x"), ("depth",)])
def test_alignment_is_drawn_in_every_dimension(dims):
    random = np.random.default_rng(0)
    shape = (2, 20, *(range(4, 4 + len(dims))))
    axes = {dim: 10.0 * np.arange(size) for dim, size in zip(dims, shape[2:], strict=True)}
    groups = {
        name: xr.Dataset(
            {
                k: (("chain", "draw", *dims), random.standard_normal(shape))
                for k in ("density", "slowness")
            },
            axes,
        )
        for name in ("posterior", "prior")
    }
    dt = xr.DataTree.from_dict(groups)
    drawn(plots.plot_alignment(dt))
    texts = drawn(plots.plot_alignment(dt, reference=dt))
    assert "density and slowness" in texts
    assert any("not defined" in text for text in texts) == (len(dims) == 1)


@pytest.mark.filterwarnings("error")
def test_tension_is_drawn_with_and_without_simulated_data():
    from tests.reports.test_tension import alone, null_of

    joint = factory.make()
    trees = {k: factory.preview(dense) for k, dense in alone(joint).items()}
    texts = drawn(plots.plot_tension(factory.preview(joint), trees))
    assert "consistent data (chi-squared)" in texts and "depth to top" in texts
    null = null_of(joint)
    texts = drawn(plots.plot_tension(factory.preview(joint), trees, null))
    assert "simulated consistent data" in texts
    null["ln_suspiciousness"][:10] = np.nan  # could not be fitted
    drawn(plots.plot_tension(factory.preview(joint), trees, null))


@pytest.mark.filterwarnings("error")
def test_leave_one_out_is_drawn():
    texts = drawn(plots.plot_leave_one_out(example_tree()))
    assert any(text.startswith("arrivals: p = ") for text in texts)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dims", [{}, {"borehole": 5}, {"east": 3, "north": 4}])
def test_data_worth_is_drawn(only_linear, dims):
    random = np.random.default_rng(1)
    seen = xr.DataArray(random.normal(size=tuple(dims.values())), dims=tuple(dims))
    settings = {"candidates": {"depth_to_top": seen}, "candidate_sd": 3.0} if dims else {}
    texts = drawn(plots.plot_data_worth(only_linear, "depth_to_top", **settings))
    assert "Sd of depth to top" in texts
    assert ("Each candidate: share of the variance" in texts) == bool(dims)
    with pytest.raises(ValueError, match="name the prediction"):
        plots.plot_data_worth(only_linear)


def test_figures_belong_to_the_caller(tree):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.plot_spectrum(tree)
    assert plt.get_fignums() == before


def test_a_missing_extra_is_named(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"bayesjoint\[plots\]"):
        plots.plot_spectrum(tree)


def test_unknown_names_are_refused(tree):
    with pytest.raises(ValueError, match="no latent 'slowness'"):
        plots.plot_posterior(tree, ["slowness"])


def field(**dims):
    shape = tuple(len(values) for values in dims.values())
    return xr.DataArray(np.arange(np.prod(shape, dtype=float)).reshape(shape), dims.items())


def test_depth_points_down_and_stands_upright():
    figure = _style.new_figure(3.0)
    ax = figure.add_subplot()
    values = field(x=[0.0, 1.0, 2.0], depth=[0.0, 1.0])
    _fields.draw_image(ax, values, "")
    assert ax.get_ylabel() == "depth" and ax.yaxis_inverted()
    assert ax.get_aspect() == 1.0


def test_a_profile_of_depth_is_upright():
    ax = _style.new_figure(3.0).add_subplot()
    _fields.draw_profile(ax, field(depth=[1.0, 2.0, 4.0]), "value")
    assert ax.yaxis_inverted() and ax.get_xlabel() == "value"
    ax = _style.new_figure(3.0).add_subplot()
    _fields.draw_profile(ax, field(time=[1.0, 2.0, 4.0]), "value")
    assert not ax.yaxis_inverted() and ax.get_ylabel() == "value"


def test_uneven_cells_share_edges():
    np.testing.assert_allclose(_fields.cell_edges(np.array([1.0, 2.0, 4.0])), [0.5, 1.5, 3.0, 5.0])
    np.testing.assert_allclose(_fields.cell_edges(np.array([3.0])), [2.5, 3.5])


def test_volumes_are_cut_and_the_cut_is_named():
    values, where = _fields.flat_enough(field(y=[0.0, 5.0, 9.0], depth=[1.0, 2.0], x=[3.0, 4.0]))
    assert values.dims == ("depth", "x") and where == "y = 5"


@pytest.mark.parametrize("dims", [{"y": 3, "depth": 4, "x": 5}, {"depth": 60}, {"channel": 4}])
def test_other_shapes_of_latents(dims):
    """A volume, a profile, a vector with names: one mode, one modality."""
    size = int(np.prod(list(dims.values())))
    vectors = np.eye(size)[:, :1]
    names = {
        k: [f"{k}{i}" for i in range(n)] if k == "channel" else np.arange(n) * 1.0
        for k, n in dims.items()
    }
    shape = tuple(dims.values())
    ds = xr.Dataset(
        {
            "eigenvalues": ("mode", [3.0]),
            "eigenvectors": (("unknown", "mode"), vectors),
            "dual_vectors": (("unknown", "mode"), vectors),
            "physical_vectors": (("cell", "mode"), vectors),
            "physical_duals": (("cell", "mode"), vectors),
            "prior_sd": ("cell", np.ones(size)),
            "true_prior_sd": ("cell", np.full(size, np.nan)),
            "mapped_cell": ("mapped", np.zeros(0, dtype=int)),
            "mapped_values": (("mapped", "node"), np.zeros((0, 3))),
            "node": ("node", [-1.0, 0.0, 1.0]),
            "posterior_sd": ("cell", np.sqrt(1.0 - 0.75 * vectors[:, 0] ** 2)),
            "modality_information": (("modality", "mode"), [[3.0]]),
            "modality_factor": (("modality", "row", "mode"), [[[3.0**0.5]]]),
            "chi2": ("modality", [1.0]),
            "n_data": ("modality", [2]),
            "eig_alone": ("modality", [0.7]),
            "eig_without": ("modality", [0.0]),
            "prior_distance": 1.0,
            "field": (tuple(dims), np.zeros(shape)),
        },
        {
            "latent_of_unknown": ("unknown", ["field"] * size),
            "latent_of_cell": ("cell", ["field"] * size),
            "modality": ["radar"],
            **names,
        },
        {"latents": ["field"], "hyperparameters": []},
    )
    dt = xr.DataTree.from_dict({"linearization": ds})
    for name in EVERYWHERE:
        drawn(getattr(plots, f"plot_{name}")(dt))
    first = {k: values[0] for k, values in names.items()}
    drawn(plots.plot_point_spread(dt, "field", **first))


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        ("kg/m3", "kg/m³"),
        ("kg m^-3", "kg m⁻³"),
        ("1e-6/Å^2", "10⁻⁶/Å²"),
        ("m/s**2", "m/s²"),
        ("1", ""),
        ("mGal", "mGal"),
    ],
)
def test_units_are_written_with_raised_exponents(units, shown):
    assert _style.pretty_units(units) == shown


@pytest.mark.parametrize(
    ("values", "factor", "units"),
    [
        ([2.5e-4, 1e-4], 1e-6, "10⁻⁶ s"),
        ([5e6, 4e6], 1e6, "10⁶ s"),
        ([0.2, 30.0], 1.0, "s"),
        ([4518800.0, 4518900.0], 1.0, "s"),  # a map coordinate keeps its digits
        ([0.0, 0.0], 1.0, "s"),
    ],
)
def test_small_and_large_numbers_are_scaled(values, factor, units):
    found = _style.scaled_units(np.array(values), "s")
    assert found == (pytest.approx(factor), units)


def test_data_with_positions_become_a_map():
    size = 80
    random = np.random.default_rng(0)
    coords = {
        "insar_easting": ("pixel", 4e5 + 1e4 * random.random(size), {"units": "m"}),
        "insar_northing": ("pixel", 4e6 + 1e4 * random.random(size), {"units": "m"}),
    }
    data = xr.DataArray(random.standard_normal(size), dims="pixel", coords=coords, name="insar")
    chart = _data.chart_of(data)
    assert chart is not None
    assert (chart.across.label, chart.upright.label) == ("easting [km]", "northing [km]")
    assert chart.to_scale and not chart.downwards
    assert _data.chart_of(data[:20]) is None
    assert _data.chart_of(data.drop_vars("insar_easting")) is None


def test_maps_are_drawn(tree):
    random = np.random.default_rng(0)
    size, draws = 64, (2, 30)
    coords = {"easting": ("pixel", random.random(size)), "northing": ("pixel", random.random(size))}
    response = random.standard_normal((*draws, size))
    dims = ("chain", "draw", "pixel")
    dt = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"insar_response": (dims, response)}, coords),
            "posterior_predictive": xr.Dataset({"insar": (dims, response + 1.0)}, coords),
            "observed_data": xr.Dataset({"insar": ("pixel", random.standard_normal(size))}),
        }
    )
    assert "data minus response" in drawn(plots.plot_fit(dt))
    drawn(plots.plot_predictive_check(dt))


def test_bars_of_data_have_the_noise_sd_of_the_posterior():
    scale = xr.DataArray([[0.1, 0.2, 0.4]], dims=("chain", "draw"))
    groups = {
        "constant_data": xr.Dataset({"tilt_noise_sd": ("t", [1.0, 2.0])}),
        "observed_data": xr.Dataset({"tilt": ("t", [0.0, 0.0])}),
        "posterior": xr.Dataset({"tilt_scale": scale}),
    }
    sd = fit.noise_sd(xr.DataTree.from_dict(groups), "tilt")
    np.testing.assert_allclose(sd, [0.2, 0.4])


def test_short_last_dims_become_panels_with_names():
    data = xr.DataArray(
        np.zeros((4, 3)),
        dims=("station", "component"),
        coords={"component": ["east", "north", "up"]},
    )
    curves = _data.curves_of(data)
    assert [curve.title for curve in curves] == ["east", "north", "up"]
    np.testing.assert_array_equal(curves[1].members, [1, 4, 7, 10])
    assert not curves[0].continuous


def test_the_axis_is_a_coordinate_in_order_not_a_count():
    q = xr.DataArray(
        np.zeros(3), dims="point", coords={"point": [0, 1, 2], "q": ("point", [0.1, 0.2, 0.4])}
    )
    (curve,) = _data.curves_of(q)
    assert curve.axis.label == "q" and curve.continuous
    (curve,) = _data.curves_of(q.drop_vars("q"))
    assert curve.axis.label == "point" and not curve.continuous
