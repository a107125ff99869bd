import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from bayesjoint._kernels.powers import equal_powers
from tests.reports import factory


@pytest.fixture(scope="module")
def report(preview):
    return reports.balance(preview, equalise=True)


@pytest.fixture(scope="module")
def preview(dense):
    return factory.preview(dense)


def variances(dense, *names):
    covariance = np.linalg.inv(dense.metric + dense.h(*names)) if names else None
    covariance = np.linalg.inv(dense.metric) if covariance is None else covariance
    return (dense.scale @ covariance @ dense.scale.T).diagonal()


def test_shares_add_up(report, dense):
    for name in ("n_data_share", "dofs_share", "eig_share"):
        np.testing.assert_allclose(report[name].sum(), 1.0, rtol=1e-10)
    np.testing.assert_allclose(report["eig_part"].sum(), report["eig"], rtol=1e-10)
    np.testing.assert_allclose(report["partial_dofs"].sum(), np.trace(dense.r_white), rtol=1e-9)


def test_norms_are_those_of_whitened_sensitivities(report, dense):
    whitener = np.linalg.inv(np.linalg.cholesky(dense.metric)).T
    for name, jacobian in dense.jacobian.items():
        found = report.sel(modality=name)
        expected = np.linalg.norm(jacobian @ whitener)
        np.testing.assert_allclose(found["sensitivity_norm"], expected, rtol=1e-9)
        np.testing.assert_allclose(found["sensitivity_per_datum"], expected / 3.0, rtol=1e-9)


def test_the_part_of_the_information_is_what_it_adds_while_all_data_grow_in(report, dense):
    steps, weights = np.polynomial.legendre.leggauss(40)
    for name in dense.jacobian:
        slope = [
            np.trace(np.linalg.solve(dense.metric + t * dense.h(), dense.h(name))) / 2
            for t in (steps + 1) / 2
        ]
        expected = np.dot(weights, slope) / 2
        np.testing.assert_allclose(report["eig_part"].sel(modality=name), expected, rtol=1e-6)


def test_maps_are_variances_of_each_alone_and_of_the_rest(report, dense):
    prior, both = variances(dense), variances(dense, *dense.jacobian)
    for name, other in (("gravity", "arrivals"), ("arrivals", "gravity")):
        own, rest = variances(dense, name), variances(dense, other)
        found = report.sel(modality=name)
        for latent in factory.SIZES:
            at = dense.at(latent)
            alone = found[f"{latent}_alone"].values.ravel()
            np.testing.assert_allclose(alone, (1 - own / prior)[at], atol=1e-9)
            lost = found[f"{latent}_conditional"].values.ravel()
            np.testing.assert_allclose(lost, ((rest - both) / prior)[at], atol=1e-9)
    assert report["density_alone"].dims == ("modality", "depth", "x")


def test_leaders_are_those_that_remove_most_and_the_prior_where_none_does(dense):
    weak = factory.make(strength=0.02)
    assert set(reports.balance(factory.preview(weak))["density_leader"].values.flat) == {"prior"}
    report = reports.balance(factory.preview(dense))
    most = report["density_alone"].idxmax("modality")
    led = report["density_leader"] != "prior"
    assert led.any() and (report["density_leader"] == most).where(led, True).all()


def test_scales_are_prior_sds_with_their_units(report, dense):
    expected = np.sqrt(variances(dense)[dense.at("density")].mean())
    np.testing.assert_allclose(report["scale"].sel(latent="density"), expected, rtol=1e-9)
    assert report["units"].sel(latent="density").item() == "kg/m3"


def test_equal_powers_make_equal_degrees_of_freedom(report, dense):
    raised = {k: float(report["power"].sel(modality=k)) * dense.h(k) for k in dense.jacobian}
    total = dense.metric + sum(raised.values())
    for block in raised.values():
        dofs = np.trace(np.linalg.solve(total, block))
        np.testing.assert_allclose(dofs, report["dofs_equalised"], rtol=1e-7)
    assert report["power"].max() == 1.0 and "departure from the model" in report.attrs["departure"]


@pytest.mark.parametrize("seed", range(20))
def test_powers_of_many_modalities_are_found(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 6))
    roots = [10 ** random.uniform(-2, 3) * random.normal(size=(random.integers(1, 9), 12))
             for _ in range(count)]  # fmt: skip
    blocks = np.stack([root.T @ root for root in roots])
    powers, dofs = equal_powers(blocks)
    raised = powers[:, None, None] * blocks
    found = np.trace(np.linalg.solve(np.eye(12) + raised.sum(0), raised), axis1=1, axis2=2)
    np.testing.assert_allclose(found, dofs, rtol=1e-6)
    assert powers.max() == 1.0 and powers.min() > 0


def test_points_are_weighed_one_by_one(pair):
    report = reports.balance(factory.at_points(pair), equalise=True)
    each = [reports.balance(factory.preview(dense), equalise=True) for dense in pair]
    for i, single in enumerate(each):
        for name in ("dofs_share", "density_alone", "power", "sensitivity_norm"):
            np.testing.assert_allclose(report[name].isel(point=i), single[name], rtol=1e-8)
    assert report["density_leader"].dims == ("depth", "x")


def words_of(strength=1.0, count=9, **changes):
    dense = factory.make()
    dense.jacobian["gravity"] *= strength
    ds = factory.linearization(dense, noise_scales=["known", "known"])
    for name, values in changes.items():
        ds[name] = ("modality", values)
    return " ".join(reports.balance(xr.DataTree.from_dict({"linearization": ds})).attrs["words"])


def test_common_faults_in_words():
    words = words_of(strength=0.05)
    assert "gravity carries" in words and "the noise sd may be too large, the stations too" in words
    assert "bj.GaussianNoise(sd=..., scale=bj.Prior(" in words
    words = words_of(strength=0.4, n_data=[100, 4])
    assert "arrivals has 4 data of 104 but" in words
    words = words_of(chi2=[9000.0, 9.0], n_data=[90, 90])
    assert "residuals of gravity are" in words and "the sd is too small" in words
    assert "residuals of arrivals are" in words and "too little say" in words
    assert "No modality drowns another" in words_of()
    assert "scaled by their prior sd: density" in words_of()


def test_repetition_in_words():
    dense = factory.make(strength=3.0)
    dense.jacobian["gravity"] = 0.3 * dense.jacobian["arrivals"]
    words = " ".join(reports.balance(factory.preview(dense)).attrs["words"])
    assert "they know it already" in words


def test_an_unknown_scale_is_read_from_the_unknowns_of_an_older_tree():
    tree = factory.preview(factory.make(), hyperparameters=["density_sd", "gravity_sd"])
    ds = tree["linearization"].to_dataset()
    labels = np.where(factory.make().labels == "density_sd", "gravity_sd", factory.make().labels)
    ds = ds.rename(density_sd="gravity_sd").assign_attrs(hyperparameters=["gravity_sd"])
    ds = ds.assign_coords(latent_of_cell=("cell", labels), latent_of_unknown=("unknown", labels))
    report = reports.balance(xr.DataTree.from_dict({"linearization": ds}))
    assert report.attrs["noise_scales"] == ["unknown", "known"]


def test_faults():
    dense = factory.make()
    old = factory.preview(dense)["linearization"].to_dataset().drop_vars("modality_factor")
    with pytest.raises(ValueError, match="lacks modality_factor: an earlier version stored it"):
        reports.balance(xr.DataTree.from_dict({"linearization": old}))
    with pytest.raises(ValueError, match="errors of the modalities are correlated"):
        reports.balance(factory.preview(dense, errors="correlated"), equalise=True)
    one = factory.Dense(
        {"gravity": dense.jacobian["gravity"]}, dense.gamma, dense.scale, dense.data
    )
    with pytest.raises(ValueError, match="one modality, gravity; nothing to equalise"):
        reports.balance(factory.preview(one), equalise=True)
    dense.jacobian["gravity"][:] = 0.0
    with pytest.raises(ValueError, match="gravity says nothing about any unknown"):
        reports.balance(factory.preview(dense), equalise=True)
