"""Missing data: the posterior of the problem without their rows, results on the whole image."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj

SIZE = 3
THETA = bj.Parameter(
    "theta", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), coords={"k": list(range(SIZE))}
)
EXACT = {"rtol": 1e-10, "atol": 1e-10}
CLOSE = {"rtol": 1e-6, "atol": 1e-7}  # of unknowns found by iteration


def rng(seed=0):
    return np.random.default_rng(seed)


MATRIX = {name: rng(seed).normal(size=(12, SIZE)) for seed, name in enumerate("ab", 1)}
VALUES = {name: rng(seed).normal(size=12) for seed, name in enumerate("ab", 11)}
GAPS = {"a": [1, 5, 10], "b": [0, 5, 6, 11]}


def kept(name, gaps=GAPS):
    return np.setdiff1d(np.arange(12), gaps.get(name, []))


def image(name, values=None):
    """Return twelve values as an image of 3 by 4, with coordinates of several kinds."""
    values = VALUES[name] if values is None else values
    y, x = np.divmod(np.arange(12.0), 4)
    dims = (f"y_{name}", f"x_{name}")
    coords = {"east": (dims, (x + 0.1 * y).reshape(3, 4)), "north": (dims, y.reshape(3, 4))}
    coords |= {dims[0]: [0.0, 1.0, 2.0], dims[1]: [0.0, 1.0, 2.0, 3.0]}
    return xr.DataArray(np.reshape(values, (3, 4)), coords, dims, attrs={"units": "m"})


def line(name, values=None):
    """Return the same data along one dim."""
    data = image(name, values)
    coords = {key: (f"s_{name}", data[key].values.ravel()) for key in ("east", "north")}
    return xr.DataArray(data.values.ravel(), coords, f"s_{name}", attrs=data.attrs)


def with_gaps(name, gaps=GAPS, values=None):
    values = np.array(VALUES[name] if values is None else values, dtype=float)
    values[gaps.get(name, [])] = np.nan
    return values


def problems(
    noises, gaps=GAPS, flat=False, observe=None, power=1.0, values=VALUES, rows=None, **parts
):
    """Return the problem with gaps, and the one without the rows.

    ``rows`` makes what belongs to the noise or discrepancy of the second: (name, kept) -> noise.
    """
    shape = line if flat else image
    full, less = [], []
    for name, noise in noises.items():
        forward, settings = bj.linear_map(MATRIX[name], "theta"), {"power": power}
        data = shape(name, with_gaps(name, gaps, values[name]))
        full.append(
            bj.Modality(name, data, forward, noise, observe=observe, missing="drop", **settings)
        )
        where = kept(name, gaps)
        matrix = MATRIX[name] if observe is None else observe @ MATRIX[name]
        own = noise if rows is None else rows(noise, where)
        less.append(
            bj.Modality(
                name, line(name, values[name]).isel({f"s_{name}": where}),
                bj.linear_map(matrix[where], "theta"), own, **settings,
            )
        )  # fmt: skip
    second = parts.pop("without", parts)
    return (
        bj.JointProblem(latents=[THETA], modalities=full, **parts),
        bj.JointProblem(latents=[THETA], modalities=less, **second),
    )


def compare(first, second, tolerance=EXACT):
    """Hold all numbers of two linearizations to each other."""
    one, two = (bj.linearize(p)["linearization"].to_dataset() for p in (first, second))
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        if (
            name in ("eigenvectors", "data_rows", "rest_factor", "modality_factor")
            or "mode" in one[name].dims
        ):
            continue  # signs and rotations of directions are free
        if one[name].dtype.kind in "fi":
            np.testing.assert_allclose(one[name], two[name], err_msg=str(name), **tolerance)
    np.testing.assert_allclose(one["eigenvalues"], two["eigenvalues"], **tolerance)
    for report in (bj.identifiability, bj.information):
        a, b = (report(xr.DataTree.from_dict({"linearization": ds})) for ds in (one, two))
        for name in ("posterior_sd", "eig", "contraction"):
            if name in a:
                np.testing.assert_allclose(a[name], b[name], **tolerance)
    return one


GAUSSIAN = bj.GaussianNoise(sd=0.3)
SDS = np.linspace(0.2, 0.6, 12)


def cut(noise, where):
    """Return noise of rows alone, by hand."""
    if isinstance(noise, bj.CorrelatedNoise):
        return noise.replace(covariance=np.asarray(noise.covariance)[np.ix_(where, where)])
    sd = getattr(noise, "sd", None)
    if isinstance(sd, bj.Prior) or np.ndim(sd) == 0:
        return noise
    return noise.replace(sd=np.ravel(sd)[where])


SPREAD = rng(5).normal(size=(12, 12)) / 4
COVARIANCE = SPREAD @ SPREAD.T + 0.1 * np.eye(12)
UNKNOWN = bj.Prior(pm.LogNormal, mu=-1.0, sigma=0.5)
NOISES = {
    "one sd": (GAUSSIAN, EXACT),
    "an sd each": (bj.GaussianNoise(sd=SDS.reshape(3, 4)), EXACT),
    "unknown sd": (bj.GaussianNoise(sd=UNKNOWN), CLOSE),
    "unknown scale": (bj.GaussianNoise(sd=SDS.reshape(3, 4), scale=UNKNOWN), CLOSE),
    "Student": (bj.StudentTNoise(sd=SDS.reshape(3, 4), nu=4), CLOSE),
}


@pytest.mark.parametrize("which", NOISES)
def test_each_noise_is_as_without_the_rows(which):
    noise, tolerance = NOISES[which]
    ds = compare(*problems({"a": noise}, rows=cut), tolerance)
    assert ds["n_data"].values.tolist() == [9]


def test_correlated_noise_keeps_the_covariance_of_the_observed_rows():
    noise = bj.CorrelatedNoise(covariance=COVARIANCE)
    compare(*problems({"a": noise, "b": GAUSSIAN}, flat=True, rows=cut))


def test_the_posterior_is_that_of_direct_linear_algebra():
    """The whole chain against ``(I + A^T C^-1 A)^-1 A^T C^-1 d`` of the observed rows."""
    noise, where = bj.CorrelatedNoise(covariance=COVARIANCE), kept("a")
    ds = bj.linearize(problems({"a": noise}, flat=True, rows=cut)[0])["linearization"]
    matrix, covariance = MATRIX["a"][where], COVARIANCE[np.ix_(where, where)]
    weighed = np.linalg.solve(covariance, matrix).T
    precision = np.eye(SIZE) + weighed @ matrix
    mean = np.linalg.solve(precision, weighed @ VALUES["a"][where])
    np.testing.assert_allclose(ds["theta"], mean, **EXACT)
    sd = bj.identifiability(xr.DataTree.from_dict({"linearization": ds.to_dataset()}))
    np.testing.assert_allclose(
        sd["posterior_sd"], np.sqrt(np.diag(np.linalg.inv(precision))), **EXACT
    )


def test_counts_are_as_without_the_rows():
    """NaN among counts, which are then floats."""
    rate = bj.pytensor_map(lambda t: pm.math.exp(MATRIX["a"] @ t / 3), ["theta"])
    counts = rng(3).poisson(3.0, size=12).astype(float)
    where = kept("a")
    rows = bj.pytensor_map(lambda t: pm.math.exp(MATRIX["a"][where] @ t / 3), ["theta"])
    full = bj.Modality(
        "a", image("a", with_gaps("a", values=counts)), rate, bj.PoissonNoise(), missing="drop"
    )
    less = bj.Modality("a", line("a", counts).isel(s_a=where), rows, bj.PoissonNoise())
    first, second = (bj.JointProblem(latents=[THETA], modalities=[m]) for m in (full, less))
    compare(first, second, CLOSE)


def test_an_observation_operator_and_a_power():
    turn = rng(7).normal(size=(12, 12)) / 3
    compare(*problems({"a": GAUSSIAN}, observe=turn, power=0.5))


BOTH = {"a": GAUSSIAN, "b": bj.GaussianNoise(sd=0.2)}
SAME = {"a": GAPS["a"], "b": GAPS["a"]}
SD = {"a": 0.5, "b": 0.4}
CAUSE = {"a": 1.0, "b": -0.7}
BY_PLACE = {"on": ("east", "north"), "length_scale": 2.0}
DISCREPANCIES = {
    "places": bj.JointDiscrepancy(sd=SD, correlation=0.6, **BY_PLACE),
    "a product": bj.JointDiscrepancy(
        sd=SD, correlation=0.6, on=("east", "north"), length_scale={"east": 2.0, "north": 1.0}
    ),
    "loadings": bj.JointDiscrepancy(sd=0.4, loadings=CAUSE, **BY_PLACE),
    "marginal": bj.JointDiscrepancy(sd=SD, correlation=0.6, form="marginal", **BY_PLACE),
    "leading modes": bj.JointDiscrepancy(sd=SD, correlation=0.6, rank=5, **BY_PLACE),
    "a grid": bj.JointDiscrepancy(
        sd=SD, correlation=0.6, smoothness=1.5, on="east", length_scale=2.0,
        grid=bj.Grid(east=np.linspace(-3.0, 7.0, 21)),
    ),
    "of one": bj.JointDiscrepancy(sd={"a": 0.5}, **BY_PLACE),
}  # fmt: skip


@pytest.mark.parametrize("gaps", [GAPS, SAME], ids=["own gaps", "the same gaps"])
@pytest.mark.parametrize("which", DISCREPANCIES)
def test_a_discrepancy_in_coordinates(which, gaps):
    compare(*problems(BOTH, gaps, discrepancy=DISCREPANCIES[which]))


def test_unknown_settings_of_a_discrepancy():
    discrepancy = bj.JointDiscrepancy(
        sd={"a": UNKNOWN, "b": 0.4}, correlation=0.5, on="east", length_scale=UNKNOWN
    )
    compare(*problems(BOTH, discrepancy=discrepancy), CLOSE)


def paired(gaps, **settings):
    """Return a discrepancy paired by index, and the same by a covariance of the rows."""
    mixing = np.array([[0.25, 0.12], [0.12, 0.16]])
    if "loadings" in settings:
        mixing = 0.16 * np.outer(*[list(settings["loadings"].values())] * 2)
    names, units = ("a", "b"), np.eye(12)
    covariance = {
        (first, second): mixing[i, j] * units[np.ix_(kept(first, gaps), kept(second, gaps))]
        for i, first in enumerate(names)
        for j, second in enumerate(names)
        if i <= j
    }
    without = bj.JointDiscrepancy(covariance=covariance)
    return {"discrepancy": bj.JointDiscrepancy(**settings), "without": {"discrepancy": without}}


@pytest.mark.parametrize("gaps", [GAPS, SAME, {"b": [3]}], ids=["own", "same", "of one"])
@pytest.mark.parametrize(
    "settings",
    [{"sd": SD, "correlation": 0.6}, {"sd": 0.4, "loadings": CAUSE}],
    ids=["sd", "cause"],
)
def test_a_discrepancy_paired_by_index(settings, gaps):
    """The pairs stay those of the images: against the covariance of the rows, made by hand."""
    compare(*problems(BOTH, gaps, **paired(gaps, **settings)))


def test_a_given_covariance():
    spread = rng(8).normal(size=(24, 24)) / 5
    whole = spread @ spread.T
    blocks = {("a", "a"): whole[:12, :12], ("a", "b"): whole[:12, 12:], ("b", "b"): whole[12:, 12:]}
    rows = {(i, j): block[np.ix_(kept(i), kept(j))] for (i, j), block in blocks.items()}
    compare(
        *problems(
            BOTH, discrepancy=bj.JointDiscrepancy(covariance=blocks),
            without={"discrepancy": bj.JointDiscrepancy(covariance=rows)},
        )
    )  # fmt: skip


def test_a_sampled_discrepancy_has_the_same_likelihood():
    """Latent form: the prior of what is observed does not depend on the form."""
    latent = bj.JointDiscrepancy(sd=SD, correlation=0.6, form="latent", **BY_PLACE)
    marginal = latent.replace(form="marginal")
    compare(*(problems(BOTH, discrepancy=d)[0] for d in (latent, marginal)))
    for gaps in (GAPS, SAME):
        settings = {"sd": SD, "correlation": 0.6}
        by_index = bj.JointDiscrepancy(form="latent", **settings)
        reference = problems(BOTH, gaps, **paired(gaps, **settings))[1]
        compare(problems(BOTH, gaps, discrepancy=by_index)[0], reference)


def test_a_discrepancy_of_a_shared_map():
    """Model space: the error of one map, seen by two instruments, one through a matrix."""
    coords = {"east": np.arange(12.0)}
    shared = bj.linear_map(MATRIX["a"], "theta", coords=coords)
    turn = rng(7).normal(size=(12, 12)) / 3
    discrepancy = bj.JointDiscrepancy(of=shared, sd=0.5, on="east", length_scale=3.0)
    found = []
    for rows in ({"a": slice(None), "b": slice(None)}, {"a": kept("a"), "b": kept("b")}):
        gaps = GAPS if isinstance(rows["a"], slice) else {}
        modalities = []
        for name, matrix in {"a": np.eye(12), "b": turn}.items():
            values = with_gaps(name, gaps)[rows[name]]
            data = xr.DataArray(values, dims=f"s_{name}")
            observe = matrix[rows[name]] if len(values) < 12 or name == "b" else None
            modalities.append(
                bj.Modality(name, data, shared, BOTH[name], observe=observe, missing="drop")
            )
        found.append(
            bj.JointProblem(latents=[THETA], modalities=modalities, discrepancy=discrepancy)
        )
    compare(*found)
