from dataclasses import replace

import numpy as np
import pytest

import bayesjoint.reports as reports
from tests.reports import factory


@pytest.fixture(scope="module")
def alone():
    joint = factory.make()
    return {k: replace(joint, jacobian={k: joint.jacobian[k]}) for k in joint.jacobian}


@pytest.fixture(scope="module")
def report(alone):
    separate = {k: factory.preview(dense) for k, dense in alone.items()}
    return reports.compromise(factory.preview(factory.make()), separate)


def test_misfits_are_those_of_each_best_fit(report, alone):
    joint = factory.make()
    for k, dense in alone.items():
        for found, best in (("chi2_joint", joint.best), ("chi2_separate", dense.best)):
            expected = ((dense.data[k] - dense.jacobian[k] @ best) ** 2).sum()
            np.testing.assert_allclose(report[found].sel(modality=k), expected, atol=1e-10)
    assert list(report["n"].values) == [9, 9]


def test_penalised_misfit_is_never_smaller_in_the_joint_fit(report, alone):
    assert (report["penalised_joint"] >= report["penalised_separate"]).all()
    for k, dense in alone.items():
        expected = ((dense.data[k] - dense.jacobian[k] @ dense.best) ** 2).sum()
        expected += dense.best @ dense.best
        np.testing.assert_allclose(report["penalised_separate"].sel(modality=k), expected)


def test_latents_that_a_modality_does_not_reach_are_left_out(alone):
    tree = factory.preview(alone["gravity"])
    ds = tree["linearization"].to_dataset()
    kept = ds.sel(latent=["density", "density_sd"]).assign_attrs(latents=["density"])
    kept = kept.isel(unknown=kept.latent_of_unknown != "depth_to_top")
    kept = kept.isel(cell=kept.latent_of_cell != "depth_to_top").drop_vars("depth_to_top")
    tree = type(tree).from_dict({"linearization": kept})
    joint = factory.preview(factory.make())
    report = reports.compromise(
        joint, {"gravity": tree, "arrivals": factory.preview(alone["arrivals"])}
    )
    norms = report["prior_norm_separate"].sel(latent="depth_to_top")
    np.testing.assert_array_equal(norms.isnull(), [True, False])
    reached = report["prior_norm_joint"].sel(latent=["density", "density_sd"]).sum()
    expected = report["chi2_joint"].sel(modality="gravity") + reached
    np.testing.assert_allclose(report["penalised_joint"].sel(modality="gravity"), expected)
    assert "density_averaged" in report and "depth_to_top_averaged" not in report


def test_averaged_model_weighs_by_inverse_variance(report, alone):
    weights, values = [], []
    for dense in alone.values():
        covariance = dense.scale @ dense.posterior @ dense.scale.T
        weights.append(1.0 / covariance.diagonal()[:12])
        values.append((dense.scale @ dense.best)[:12])
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(report["density_averaged"].values.ravel(), expected, atol=1e-8)
    assert report["density_averaged"].attrs["units"] == "kg/m3"


def test_misfits_of_averaged_models_are_those_of_the_physics(report, alone):
    joint = factory.make()
    covariances = [d.scale @ d.posterior @ d.scale.T for d in alone.values()]
    weights = np.stack([1.0 / c.diagonal() for c in covariances])
    estimates = np.stack([d.best for d in alone.values()])
    physical = estimates @ joint.scale.T
    averages = {
        "weighted": (weights * physical).sum(axis=0) / weights.sum(axis=0),
        "plain": physical.mean(axis=0),
    }
    for name, average in averages.items():
        white = np.linalg.solve(joint.scale, average)
        white[13] = joint.best[13]  # a hyperparameter: not averaged
        for k, jacobian in joint.jacobian.items():
            expected = ((joint.data[k] - jacobian @ white) ** 2).sum()
            found = report["chi2_averaged"].sel(averaging=name, modality=k)
            np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_distances_between_estimates(report, alone):
    joint = factory.make()
    for k, dense in alone.items():
        gap = (joint.scale @ (dense.best - joint.best))[:12]
        prior = np.linalg.norm(joint.scale, axis=1)[:12]
        own = np.sqrt((dense.scale @ dense.posterior @ dense.scale.T).diagonal()[:12])
        found = report.sel(modality=k, latent="density")
        np.testing.assert_allclose(found["distance_prior_sd"], np.sqrt(np.mean((gap / prior) ** 2)))
        np.testing.assert_allclose(
            found["distance_own_sd"], np.sqrt(np.mean((gap / own) ** 2)), rtol=1e-6
        )


def test_words_say_what_was_given_up_and_whether_averaging_is_as_good(report):
    text = " ".join(report.attrs["words"])
    assert "gravity: χ² = " in text and "the joint fit costs it" in text
    assert "averaging the separate models" in text and "times as much" in text


def test_faults(alone):
    joint = factory.preview(factory.make())
    one = factory.preview(alone["gravity"])
    with pytest.raises(ValueError, match="separate is empty; give a DataTree for some of: gravity"):
        reports.compromise(joint, {})
    with pytest.raises(
        ValueError, match="no modality 'radar'; the joint fit has gravity, arrivals"
    ):
        reports.compromise(joint, {"radar": one})
    with pytest.raises(ValueError, match="'arrivals'.* has no modality 'arrivals'"):
        reports.compromise(joint, {"arrivals": one})
    with pytest.raises(ValueError, match="the joint fit was linearized at draws"):
        reports.compromise(factory.at_points([factory.make(), factory.make(2)]), {"gravity": one})
