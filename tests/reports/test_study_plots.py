"""Figures of studies: drawn from what a study returns, and what they show of it."""

import numpy as np
import pytest
import xarray as xr

import bayesjoint.plots as plots
from bayesjoint._kernels.prediction import region_probability

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.filterwarnings("error")
SEED = 3


def drawn(figure):
    """Render, so that layout problems show; return what is written on it."""
    figure.canvas.draw()
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    return [text.get_text() for text in texts]


def calibration(weights=(0.0, 0.1, 1.0, 10.0), error=0.01):
    weight = np.array(weights)
    columns = {"similarity": 0.5 + 0.1 * np.arange(weight.size), "size": 1.0 - 0.02 * weight,
               "flat_share": 0.01 * weight,
               "similarity_error": np.full(weight.size, error)}  # fmt: skip
    return xr.Dataset(
        {k: ("weight", v) for k, v in columns.items()} | {"calibrated": 3.0},
        {"weight": weight}, {"wanted": 0.75, "coupling": "cross_gradient"},
    )  # fmt: skip


def test_the_weight_of_a_coupling_is_marked_in_its_monte_carlo_band():
    figure = plots.plot_coupling_calibration(calibration(error=0.02))
    texts = drawn(figure)
    assert "Similarity: 0.75 asked for" in texts and "weight 3" in texts
    left = figure.axes[0]
    (band,) = left.collections
    edges = band.get_paths()[0].vertices
    at_ten = edges[edges[:, 0] == 10.0, 1]
    np.testing.assert_allclose([at_ten.min(), at_ten.max()], [0.76, 0.84])
    chosen = [line for line in left.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(np.concatenate([*chosen[0].get_data()]), [3.0, 0.75])
    with pytest.raises(ValueError, match=r"\['size'\] missing; give what bj.calibrate_coupling"):
        plots.plot_coupling_calibration(calibration().drop_vars("size"))


def design(shape):
    names = ["scalar"] if shape is None else ["scalar", "shaped"]
    of_design = {"leakage": 0.1, "leakage_back": 0.3, "benefit": 3.0}
    report = xr.Dataset(
        {k: ("design", np.full(len(names), v)) for k, v in of_design.items()}
        | {"weight": 2.0, "ladder_leakage": ("ladder", [0.0, 0.05, 0.3])},
        {"design": names, "ladder": [0.0, 1.0, 10.0]},
        {"bound": 0.1, "into": "density", "source": "slowness"},
    )
    if shape is not None:
        values = np.linspace(0.0, 1000.0, int(np.prod(shape))).reshape(shape)
        report["weight_map"] = (("y", "depth", "x")[-len(shape) :], values)
    return report


@pytest.mark.parametrize("shape", [None, (7,), (4, 5), (3, 4, 5)])
def test_a_design_is_drawn_with_its_map_of_weights(shape):
    texts = drawn(plots.plot_design_weight(design(shape)))
    assert "Leakage: weight 2" in texts and "of slowness into density" in texts
    assert ("log₁₀ weight" in texts) == (shape is not None)
    assert any(text.startswith("Weight of each cell, y = 1") for text in texts) == (
        shape is not None and len(shape) == 3
    )
    with pytest.raises(ValueError, match="give what bj.design_weight returns"):
        plots.plot_design_weight(design(shape).drop_vars("ladder_leakage"))


def left_out(modalities=("gnss", "levelling"), groups=5, members=3):
    rng = np.random.default_rng(SEED)
    lead = ("modality",) if modalities else ()
    shape = (*[len(modalities)] * bool(modalities), groups, members)
    dims = (*lead, "station", "component")
    return xr.Dataset(
        {
            "predicted": (("sample", *dims), rng.standard_normal((500, *shape)), {"units": "m"}),
            "measured": (dims, rng.standard_normal(shape), {"units": "m"}),
            "log_density": ("station", np.zeros(groups)),
            "region_probability": ("station", [0.1, 0.8, 0.95, 0.2, 0.3]),
            "pareto_k": ("station", [0.1, 0.8, np.nan, 0.2, 0.3]),
        },
        {"component": ["east", "north", "up"]}
        | ({"modality": list(modalities)} if modalities else {}),
    )


@pytest.mark.parametrize("modalities", [(), ("gnss", "levelling")])
def test_held_out_groups_are_drawn_with_their_coverage(modalities):
    report = left_out(modalities)
    texts = drawn(plots.plot_leave_out(report))
    assert "5 groups: 3 in their 50 % region, 4 in 90 %" in texts
    assert {"east", "north", "up", "Pareto's k", "group (by station)"} <= set(texts)
    assert set(modalities) <= set(texts)
    with pytest.raises(ValueError, match=r"\['pareto_k'\] missing; give what bj.leave_out"):
        plots.plot_leave_out(report.drop_vars("pareto_k"))


def test_the_probability_of_the_region_of_a_group_is_that_of_chi_squared():
    # 4,000 samples (seed 3) of three correlated members: standard error of a share below 0.008,
    # and that of the estimated covariance about as much.
    from scipy import stats

    rng, root = np.random.default_rng(SEED), np.array([[1.0, 0, 0], [0.9, 0.3, 0], [0, 0.5, 2.0]])
    white = rng.standard_normal((6, 3))
    predicted = rng.standard_normal((4000, 6, 3)) @ root.T
    expected = stats.chi2.cdf((white**2).sum(axis=1), 3)
    found = region_probability(predicted, white @ root.T)
    np.testing.assert_allclose(found, expected, atol=4 * 0.011)


def tension_report(value):
    return xr.Dataset({"ln_suspiciousness": value, "ln_suspiciousness_mcse": 0.1, "d": 2.0})


def test_the_null_of_tension_is_drawn_with_the_data_in_it():
    simulated = np.append(1.0 - 0.5 * np.random.default_rng(SEED).chisquare(2, 400), np.nan)
    null = xr.Dataset({"ln_suspiciousness": ("replicate", simulated)}, attrs={"refitted": 1})
    assert "400 consistent data sets" in drawn(plots.plot_tension_null(null))
    lower = int(np.sum(simulated <= -1.0))
    texts = drawn(plots.plot_tension_null(null, tension_report(-1.0)))
    assert f"data: ln S = −1.0; {lower} are as low" in texts and "chi-squared" in texts
    assert "ln S of simulated consistent data (all fitted anew to each)" in texts
    with pytest.raises(ValueError, match="give what bj.tension_null returns"):
        plots.plot_tension_null(tension_report(0.0).drop_vars("ln_suspiciousness"))
    with pytest.raises(ValueError, match="all replicates failed"):
        plots.plot_tension_null(null.isel(replicate=[-1]))


def posterior(coords, size):
    """Return a tree of one modality with places of its data."""
    response = np.zeros((2, 20, size))
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"insar_response": (("chain", "draw", "pixel"), response)}),
            "observed_data": xr.Dataset({"insar": ("pixel", np.ones(size))}, coords),
        }
    )


@pytest.mark.parametrize("kind", ["line", "lattice", "sites", "volume"])
def test_the_predicted_discrepancy_is_drawn_with_the_places_of_the_data(kind):
    rng = np.random.default_rng(SEED)
    coords = {
        "line": {"x": np.linspace(0.0, 9.0, 30)},
        "lattice": {"y": np.linspace(0.0, 5.0, 6), "x": np.linspace(0.0, 9.0, 10)},
        "sites": {"x": ("site", rng.random(60)), "y": ("site", rng.random(60))},
        "volume": {"t": np.arange(3.0), "y": np.arange(4.0), "x": np.arange(5.0)},
    }[kind]
    sizes = xr.Dataset(coords=coords).sizes
    values = rng.standard_normal((100, *sizes.values()))
    predicted = xr.Dataset({"insar_discrepancy": (("sample", *sizes), values, {"units": "mm"})},
                           coords)  # fmt: skip
    tree = posterior({f"insar_{c}": ("pixel", 4 * rng.random(12)) for c in ("x", "y")}, 12)
    figure = plots.plot_predicted_discrepancy(predicted, tree)
    texts = drawn(figure)
    titles = {"line": "dots: data minus mean response", "volume": "mean, t = 1"}
    assert titles.get(kind, "mean") in texts and "insar" in texts
    marked = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().size for line in marked] == (
        [12] if kind in ("line", "lattice") else []
    )
    if kind == "line":
        np.testing.assert_array_equal(marked[0].get_ydata(), 1.0)
    drawn(plots.plot_predicted_discrepancy(predicted))
    with pytest.raises(ValueError, match="give what bj.predict_discrepancy returns"):
        plots.plot_predicted_discrepancy(predicted.rename(insar_discrepancy="other"))
