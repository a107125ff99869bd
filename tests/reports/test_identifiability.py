import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from bayesjoint.reports import _weak
from tests.reports import factory


def covariances(dense):
    prior = dense.scale @ np.linalg.inv(dense.metric) @ dense.scale.T
    return prior, dense.scale @ dense.posterior @ dense.scale.T


def test_linearised_contraction_is_that_of_dense_covariances(dense, preview):
    report = reports.identifiability(preview)
    prior, posterior = covariances(dense)
    expected = 1 - posterior.diagonal() / prior.diagonal()
    np.testing.assert_allclose(report["contraction"], expected, atol=1e-10)
    for name in ("gravity", "arrivals"):
        (other,) = {"gravity", "arrivals"} - {name}
        by_one = {}
        for k in (name, other):
            given = dense.scale @ np.linalg.inv(dense.metric + dense.h(k)) @ dense.scale.T
            by_one[k] = 1 - given.diagonal() / prior.diagonal()
        credited = report.sel(modality=name)
        np.testing.assert_allclose(credited["contraction_alone"], by_one[name], atol=1e-10)
        lost = expected - by_one[other]
        np.testing.assert_allclose(credited["contraction_by_modality"], lost, atol=1e-10)
    assert report.attrs["contraction_from"] == "linearization"
    assert str(report["parameter"].values[0]) == "density[50, 0]"
    assert "r_hat" not in report


def test_contraction_of_draws_within_monte_carlo_error(dense, sampled):
    report = reports.identifiability(sampled)
    left = 1 - report["contraction"]
    expected = 1 - report["contraction_linearised"]
    # 1,600 independent draws on both sides: a ratio of variances is good to sqrt(4 / 1600) = 5 %
    assert (abs(left / expected - 1) < 4.5 * 0.05).all()
    assert report.attrs["contraction_from"] == "draws"
    assert (report["r_hat"] < 1.02).all() and (report["ess_bulk"] > 1000).all()


def test_index_is_the_cosine_with_the_informed_subspace(dense, preview):
    report = reports.identifiability(preview)
    ds = preview["linearization"]
    informed = ds["eigenvectors"].values[:, ds["eigenvalues"].values >= 1]
    prior = np.linalg.inv(dense.metric)
    for i, functional in enumerate(dense.scale):
        total = functional @ prior @ functional
        expected = ((informed.T @ functional) ** 2).sum() / total
        np.testing.assert_allclose(report["index"][i], expected, atol=1e-10)


def test_index_without_couplings_is_that_of_doherty_and_hunt():
    dense = factory.make()
    report = reports.identifiability(factory.preview(dense))
    values, vectors = np.linalg.eigh(dense.h())
    expected = (vectors[12:, values >= 1] ** 2).sum(axis=1)  # the two scalars
    np.testing.assert_allclose(report["index"][12:], expected, atol=1e-10)


def two_scalars(angle: float) -> xr.DataTree:
    """Two scalars, sensitivities at an angle."""
    j = np.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]]) * 3
    values, vectors = np.linalg.eigh(j.T @ j)
    values, vectors = values[::-1], vectors[:, ::-1]
    ds = xr.Dataset(
        {
            "eigenvalues": ("mode", values),
            "eigenvectors": (("unknown", "mode"), vectors),
            "dual_vectors": (("unknown", "mode"), vectors),
            "physical_vectors": (("cell", "mode"), vectors),
            "physical_duals": (("cell", "mode"), vectors),
            "prior_sd": ("cell", [1.0, 1.0]),
            "true_prior_sd": ("cell", np.full(2, np.nan)),
            "mapped_cell": ("mapped", np.zeros(0, dtype=int)),
            "mapped_values": (("mapped", "node"), np.zeros((0, 3))),
            "node": ("node", [-1.0, 0.0, 1.0]),
            "posterior_sd": ("cell", np.sqrt(vectors**2 @ (1.0 / (1.0 + values)))),
            "modality_information": (("modality", "mode"), values[None]),
            "depth": 1.0,
            "volume_change": 1.0,
        },
        {
            "latent_of_unknown": ("unknown", ["depth", "volume_change"]),
            "latent_of_cell": ("cell", ["depth", "volume_change"]),
            "modality": ["gnss"],
        },
        {"latents": ["depth", "volume_change"], "hyperparameters": []},
    )
    return xr.DataTree.from_dict({"linearization": ds})


@pytest.mark.parametrize("angle", [0.02, 0.5, np.pi / 2])
def test_collinearity_of_two_sensitivities(angle):
    report = reports.identifiability(two_scalars(angle))
    np.testing.assert_allclose(report["collinearity"], 1 / np.sqrt(1 - np.cos(angle)), rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-9])
def test_parameters_with_one_sensitivity_are_not_separable(angle):
    report = reports.identifiability(two_scalars(angle))
    assert np.isposinf(report["collinearity"])
    assert report.attrs["separable"] == 0


def test_weak_direction_in_words():
    report = reports.identifiability(two_scalars(0.1))
    text = str(report["weak_directions_text"].values[0])
    assert text.startswith(
        "depth and volume_change trade off, r = -0.90"
    )  # precision 1 + 9: r = -9 cos(0.1) / 10
    direction = report["weak_directions"].isel(direction=0).values
    np.testing.assert_allclose(abs(direction), np.sqrt(0.5), atol=1e-6)
    assert direction[0] * direction[1] < 0
    left = 1 / (1 + 9 * (1 - np.cos(0.1)))
    np.testing.assert_allclose(report["weak_variance"][0], left)


def test_weak_directions_of_the_dense_posterior(dense, preview):
    report = reports.identifiability(preview)
    prior, posterior = covariances(dense)
    sd = np.sqrt(prior.diagonal())
    widest = np.linalg.eigh(posterior / np.outer(sd, sd))[1][:, ::-1][:, :5] / sd[:, None]
    left = [v @ posterior @ v / (v @ prior @ v) for v in widest.T]
    np.testing.assert_allclose(report["weak_variance"], left, atol=1e-10)
    assert max(left) < 1
    scale = np.sqrt(posterior.diagonal())
    np.testing.assert_allclose(report["correlation"], posterior / np.outer(scale, scale), atol=1e-8)


def test_width_left_of_draws_is_in_the_sd_of_prior_draws():
    """A linearised prior sd is that at the point: of a skew prior it is another one."""
    linear, rng = two_scalars(0.1), np.random.default_rng(0)
    names, dims = ("depth", "volume_change"), ("chain", "draw")
    posterior = xr.Dataset({name: (dims, rng.normal(size=(2, 300))) for name in names})
    groups = {"posterior": posterior, "prior": 3.0 * posterior, **linear.to_dict()}
    report = reports.identifiability(xr.DataTree.from_dict(groups))
    np.testing.assert_allclose(report["contraction"], 8 / 9)
    assert abs(float(report["weak_variance"].sum()) - 2 / 9) < 1e-9


def test_a_weak_pattern_of_many_elements_is_said_to_be_one():
    names = [f"density[{i}]" for i in range(20)] + ["depth"]
    pattern = np.append(np.full(20, np.sqrt(1 / 20)), 0.0)
    said = _weak._words(pattern, 0.25, names, np.eye(21))
    assert said == "a pattern in density, most in density[0], 50 % of the prior width left"


def test_a_parameter_without_sensitivity_is_named():
    dense = factory.make()
    for j in dense.jacobian.values():
        j[:, 12] = 0.0
    report = reports.identifiability(factory.preview(dense))
    assert report.attrs["no_sensitivity"] == ["depth_to_top"]
    assert np.isnan(report["collinearity"])
    np.testing.assert_allclose(report["contraction"].sel(parameter="depth_to_top"), 0.0, atol=1e-12)


def test_large_fields_become_a_summary_and_a_map(dense, sampled, preview, monkeypatch):
    monkeypatch.setattr("bayesjoint.reports._rows.LARGEST_LISTED", 5)
    report = reports.identifiability(sampled)
    assert list(report["parameter"].values) == list(factory.SIZES)
    assert report["density_contraction"].dims == ("depth", "x")
    mean = report["density_contraction"].mean()
    np.testing.assert_allclose(report["contraction"].sel(parameter="density"), mean)
    assert report["weak_directions"].sel(parameter="density").isnull().all()
    assert report["weak_directions"].sel(parameter="depth_to_top").notnull().all()
    assert reports.identifiability(preview)["density_contraction"].shape == (3, 4)


def test_left_out_modes_leave_scalars(dense):
    ds = factory.linearization(dense).isel(mode=slice(0, 13))
    report = reports.identifiability(xr.DataTree.from_dict({"linearization": ds}))
    listed = report["weak_directions"].isel(direction=0).notnull()
    assert list(report["parameter"].values[listed]) == ["depth_to_top", "density_sd"]


def test_only_fields_give_no_weak_directions(monkeypatch):
    monkeypatch.setattr("bayesjoint.reports._rows.LARGEST_LISTED", 5)
    ds = factory.linearization(factory.make()).assign_attrs(latents=["density"], hyperparameters=[])
    report = reports.identifiability(xr.DataTree.from_dict({"linearization": ds}))
    assert report.sizes["direction"] == 0
    assert np.isnan(report["collinearity"])


def test_every_point_by_itself(pair):
    report = reports.identifiability(factory.at_points(pair))
    for i, dense in enumerate(pair):
        alone = reports.identifiability(factory.preview(dense))
        for name in ("contraction", "index", "collinearity", "contraction_by_modality"):
            np.testing.assert_allclose(
                report[name].isel(point=i),
                alone[name].transpose(*report[name].isel(point=i).dims),
                atol=1e-10,
            )
    assert np.isfinite(report["weak_variance"]).all()


def test_draws_that_lack_a_latent(sampled):
    posterior = sampled["posterior"].to_dataset().drop_vars("depth_to_top")
    broken = xr.DataTree.from_dict(
        {"posterior": posterior, "linearization": sampled["linearization"].to_dataset()}
    )
    with pytest.raises(ValueError, match="the draws lack depth_to_top"):
        reports.identifiability(broken)
