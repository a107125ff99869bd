import numpy as np

import bayesjoint.reports as reports
from tests.reports import factory


def test_gains_are_log_determinants(dense, preview):
    report = reports.information(preview)
    both = dense.gain("gravity", "arrivals")
    np.testing.assert_allclose(report["eig"], both, atol=1e-10)
    for k, other in (("gravity", "arrivals"), ("arrivals", "gravity")):
        np.testing.assert_allclose(report["eig_alone"].sel(modality=k), dense.gain(k), atol=1e-10)
        expected = both - dense.gain(other)
        np.testing.assert_allclose(report["eig_conditional"].sel(modality=k), expected, atol=1e-10)
    assert report["eig"].attrs["units"] == "nat"


def test_divergence_is_that_of_two_gaussians(dense, preview):
    prior, posterior, best = np.linalg.inv(dense.metric), dense.posterior, dense.best
    expected = 0.5 * (
        np.trace(dense.metric @ posterior)
        - dense.size
        + best @ dense.metric @ best
        + np.linalg.slogdet(prior)[1]
        - np.linalg.slogdet(posterior)[1]
    )
    np.testing.assert_allclose(reports.information(preview)["kl"], expected, atol=1e-10)


def test_every_point_by_itself(pair):
    report = reports.information(factory.at_points(pair))
    for i, dense in enumerate(pair):
        alone = reports.information(factory.preview(dense))
        np.testing.assert_allclose(report["kl"].isel(point=i), alone["kl"])
        np.testing.assert_allclose(
            report["eig_conditional"].isel(point=i), alone["eig_conditional"]
        )
