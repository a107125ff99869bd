"""Missing data: the posterior of the problem without their rows, results on the whole image."""

import copy
import pickle

import arviz as az
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


def posterior_sd(ds):
    """Return the sd of the unknowns of the response from the stored spectrum."""
    left = ds["eigenvalues"] / (1.0 + ds["eigenvalues"])
    return np.sqrt(ds["prior_sd"] ** 2 - (ds["physical_vectors"] ** 2 * left).sum("mode"))


def compare(first, second, tolerance=EXACT, beside=()):
    """Hold all numbers of two linearizations to each other, but for some and for directions."""
    one, two = (bj.linearize(p)["linearization"].to_dataset() for p in (first, second))
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        if name in beside or {"mode", "leading_mode"} & set(one[name].dims):
            continue  # signs and rotations of directions are free
        if one[name].dtype.kind in "fi":
            np.testing.assert_allclose(one[name], two[name], err_msg=str(name), **tolerance)
    np.testing.assert_allclose(one["eigenvalues"], two["eigenvalues"], **tolerance)
    np.testing.assert_allclose(posterior_sd(one), posterior_sd(two), **tolerance)
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


@pytest.mark.slow
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
    np.testing.assert_allclose(
        posterior_sd(ds), np.sqrt(np.diag(np.linalg.inv(precision))), **EXACT
    )


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "gaps",
    [GAPS, pytest.param(SAME, marks=pytest.mark.slow)],
    ids=["own gaps", "the same gaps"],
)
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("a product", "of one") else ())
        for name in DISCREPANCIES
    ],
)
def test_a_discrepancy_in_coordinates(which, gaps):
    compare(*problems(BOTH, gaps, discrepancy=DISCREPANCIES[which]))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_sampled_discrepancy_has_the_same_likelihood():
    """Latent form: the prior of what is observed does not depend on the form."""
    latent = bj.JointDiscrepancy(sd=SD, correlation=0.6, form="latent", **BY_PLACE)
    marginal, own = latent.replace(form="marginal"), ("log_posterior",)  # of more unknowns
    compare(*(problems(BOTH, discrepancy=d)[0] for d in (latent, marginal)), beside=own)
    for gaps in (GAPS, SAME):
        settings = {"sd": SD, "correlation": 0.6}
        by_index = bj.JointDiscrepancy(form="latent", **settings)
        reference = problems(BOTH, gaps, **paired(gaps, **settings))[1]
        first = problems(BOTH, gaps, discrepancy=by_index, without={})[0]
        compare(first, reference, beside=own)


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


# ---- what is refused, and what is taken ---------------------------------------------------------


def modality(data, noise=GAUSSIAN, **settings):
    return bj.Modality("a", data, bj.linear_map(MATRIX["a"], "theta"), noise, **settings)


def test_faults_are_told_with_their_cure():
    gaps, infinite = image("a", with_gaps("a")), with_gaps("a")
    infinite[2] = np.inf
    sd = xr.DataArray(np.where(np.arange(12) == 3, np.nan, SDS).reshape(3, 4), gaps.coords)
    faults = [
        (lambda: modality(gaps), '3 of 12 data are NaN; give missing="drop" where they were'),
        (
            lambda: modality(line("a", with_gaps("a"))),
            r"drop them with data.dropna\('s_a'\), or give missing=\"drop\"",
        ),
        (lambda: modality(gaps, missing="skip"), "missing 'skip' is unknown; use one of"),
        (
            lambda: modality(image("a", infinite), missing="drop"),
            r"1 of 12 data are infinite; keep the finite ones with .* and missing=\"drop\"",
        ),
        (lambda: modality(gaps * np.nan, missing="drop"), "all 12 data are NaN; leave the modal"),
        (
            lambda: modality(gaps, bj.GaussianNoise(sd=sd), missing="drop"),
            "1 of 12 data have no noise sd at their coordinates",
        ),
        (
            lambda: modality(gaps, bj.GaussianNoise(sd=sd.values), missing="drop"),
            r"1 of 12 data have no noise sd \(it is NaN\)",
        ),
    ]
    for make, message in faults:
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_names_of_the_observed_data_are_theirs():
    first = problems({"a": GAUSSIAN})[0]
    other = bj.Parameter("a_observed", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))
    message = "'a_observed' is both the name of a latent and the dimension of the observed data"
    with pytest.raises(ValueError, match=message):
        first.replace(latents=[*first.latents, other])


def test_many_incomplete_pairs_are_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr("bayesjoint._errors.checks.EXACT_PAIRS", 10)
    by_index = bj.JointDiscrepancy(sd=SD, correlation=0.6)
    with pytest.raises(ValueError, match=r"11 pairs, of which some lack a datum.*notnull\(\)"):
        problems(BOTH, discrepancy=by_index, without={})
    problems(BOTH, SAME, discrepancy=by_index, without={})


@pytest.mark.slow
def test_problems_with_gaps_are_copied_and_sent(pair):
    for other in (pickle.loads(pickle.dumps(pair[0])), copy.deepcopy(pair[0])):
        compare(other, pair[1])


@pytest.mark.parametrize("labelled", [True, False])
def test_an_sd_may_be_missing_where_data_are(labelled):
    sd = image("a", with_gaps("a", values=SDS))
    less = bj.GaussianNoise(sd=SDS[kept("a")])
    noise = bj.GaussianNoise(sd=sd if labelled else sd.values)
    compare(*problems({"a": noise}, rows=lambda *_: less))


@pytest.mark.parametrize("whole", [True, False], ids=["counts", "floats"])
def test_masked_data_are_missing(whole):
    """Also where the mask survives inside a DataArray, and where the data are integers."""
    values = np.arange(1, 13).reshape(3, 4) if whole else VALUES["a"].reshape(3, 4)
    mask = np.isin(np.arange(12), GAPS["a"]).reshape(3, 4)
    masked, data = np.ma.MaskedArray(values, mask), image("a")
    inside = data.copy()
    inside.variable._data = masked
    for given in (xr.DataArray(masked, data.coords), inside):
        with pytest.raises(ValueError, match="3 of 12 data are NaN"):
            modality(given)
        np.testing.assert_array_equal(
            modality(given, missing="drop").data, np.where(mask, np.nan, values)
        )


# ---- other problems, other data ----------------------------------------------------------------


COMMON = bj.JointDiscrepancy(sd=SD, correlation=0.6, **BY_PLACE)


@pytest.fixture(scope="module")
def pair():
    return problems(BOTH, discrepancy=COMMON)


@pytest.mark.slow
def test_derived_problems_keep_the_gaps(pair):
    ways = {
        "without": lambda p: p.without("b"),
        "separate": lambda p: p.separate()["a"],
        "split": lambda p: p.split(),
        "replace": lambda p: p.replace(discrepancy=None),
    }
    for how in ways.values():
        compare(*(how(p) for p in pair))
    unknown = problems({"a": bj.GaussianNoise(sd=UNKNOWN)})
    compare(*(p.hold({"a_sd": 0.25}) for p in unknown))


@pytest.mark.slow
def test_simulated_data_observe_no_more_than_the_data(pair):
    first, second = (bj.simulate(p, random_seed=7) for p in pair)
    for name in "ab":
        assert first[name].dims == image(name).dims
        np.testing.assert_array_equal(
            np.flatnonzero(first[name].isnull().values.ravel()), GAPS[name]
        )
        np.testing.assert_allclose(
            first[name].values.ravel()[kept(name)], second[name].values, **EXACT
        )
    again = [p.with_data(data[["a", "b"]]) for p, data in zip(pair, (first, second), strict=True)]
    assert again[0].pool is pair[0].pool
    compare(*again)


@pytest.mark.slow
def test_other_data_may_miss_others(pair):
    """Forth and back: graphs of one pattern are not taken for those of another."""
    data = image("a", with_gaps("a", {"a": [2]}))
    other = pair[0].with_data({"a": data})
    matrix = MATRIX["a"][kept("a", {"a": [2]})]
    values = data.values.ravel()[kept("a", {"a": [2]})]
    less = bj.Modality(
        "a", line("a").isel(s_a=kept("a", {"a": [2]})).copy(data=values),
        bj.linear_map(matrix, "theta"), GAUSSIAN,
    )  # fmt: skip
    compare(other, pair[1].replace(modalities=[less, pair[1].modality["b"]]))
    compare(other.with_data({"a": image("a", with_gaps("a"))}), pair[1])
    full = pair[0].with_data({"a": image("a"), "b": image("b")})
    assert full.observed is full


def test_a_plain_model(pair):
    model = bj.build_model(pair[0])
    assert dict(model.named_vars_to_dims)["a_response"] == ("y_a", "x_a")
    alone = bj.build_model(pair[0].replace(discrepancy=None))
    assert alone.named_vars_to_dims["a"] == ("a_observed",)
    assert list(alone.coords["a_observed"]) == kept("a").tolist()
    with alone:
        drawn = pm.sample(
            5, tune=5, chains=1, progressbar=False, random_seed=1, nuts_sampler="pymc",
            compile_kwargs={"mode": "FAST_COMPILE"},
        )  # fmt: skip
    assert drawn["posterior"]["a_response"].dims == ("chain", "draw", "y_a", "x_a")
    np.testing.assert_array_equal(drawn["observed_data"]["a"], VALUES["a"][kept("a")])


# ---- results ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(pair):
    return bj.sample(
        pair[0], draws=150, tune=100, chains=2, random_seed=3, progress=False,
        backend="interpreted",
    )  # fmt: skip


def test_groups_keep_the_image(tree):
    for name in "ab":
        data = image(name, with_gaps(name))
        xr.testing.assert_equal(tree["observed_data"][name].drop_vars(
            [c for c in tree["observed_data"][name].coords if c not in data.dims]
        ), data.drop_vars(["east", "north"]))  # fmt: skip
        for where in (tree["posterior"][f"{name}_response"], tree["posterior_predictive"][name]):
            assert where.dims == ("chain", "draw", *data.dims)
            assert where.notnull().all()
        assert tree["constant_data"][f"{name}_noise_sd"].dims == data.dims
        assert (
            tree["posterior"][f"{name}_discrepancy"]
            .notnull()
            .equals(
                xr.broadcast(data.notnull(), tree["posterior"][f"{name}_discrepancy"])[0]
                .transpose("chain", "draw", ...)
                .drop_vars(["east", "north"])
                .assign_coords(tree["posterior"][f"{name}_discrepancy"].coords)
            )
        )
        pointwise = tree["log_likelihood_conditional"][name]
        assert pointwise.dims == ("chain", "draw", f"{name}_observed")
        assert pointwise.notnull().all()
        places = pointwise[f"{name}_observed"].values
        assert places.tolist() == kept(name).tolist()
        np.testing.assert_array_equal(pointwise[f"{name}_y_{name}"], places // 4)
        np.testing.assert_array_equal(
            pointwise[f"{name}_east"], data["east"].values.ravel()[places]
        )
    response = tree["posterior"]["theta"].values @ MATRIX["a"].T
    np.testing.assert_allclose(
        tree["posterior"]["a_response"].values.reshape(response.shape), response, **EXACT
    )


def covariance_of(gaps=GAPS):
    """Return the covariance of all errors of both modalities, of the rows that are observed."""
    points = np.concatenate([
        np.stack([line(n)[c].values for c in ("east", "north")], axis=1) for n in "ab"
    ])  # fmt: skip
    apart = np.sqrt(3.0) * np.linalg.norm(points[:, None] - points, axis=-1) / 2.0
    process = (1.0 + apart) * np.exp(-apart)
    mixing = np.array([[0.25, 0.12], [0.12, 0.16]])
    total = np.kron(mixing, np.ones((12, 12))) * process
    total += np.diag(np.repeat([0.3**2, 0.2**2], 12))
    rows = np.concatenate([kept("a", gaps), 12 + kept("b", gaps)])
    return total[np.ix_(rows, rows)]


def test_log_likelihoods_are_those_of_the_observed_data(tree):
    """Against dense algebra: jointly, and each datum given all other observed ones."""
    theta = tree["posterior"]["theta"].values.reshape(-1, SIZE)
    stacked = np.concatenate([MATRIX[n][kept(n)] for n in "ab"])
    data = np.concatenate([VALUES[n][kept(n)] for n in "ab"])
    residual, precision = data - theta @ stacked.T, np.linalg.inv(covariance_of())
    joint = -0.5 * np.einsum("di,ij,dj->d", residual, precision, residual)
    joint += 0.5 * np.linalg.slogdet(precision / (2 * np.pi))[1]
    found = tree["log_likelihood_joint"]["joint"].values.ravel()
    np.testing.assert_allclose(found, joint, rtol=1e-8)
    variance = 1.0 / np.diag(precision)
    gap = (residual @ precision) * variance
    pointwise = -0.5 * (gap**2 / variance + np.log(2 * np.pi * variance))
    np.testing.assert_allclose(
        tree["log_likelihood"]["joint(a, b)"].values.ravel(), joint, rtol=1e-8
    )
    found = [tree["log_likelihood_conditional"][n].values.reshape(len(theta), -1) for n in "ab"]
    np.testing.assert_allclose(np.concatenate(found, axis=1), pointwise, rtol=1e-8)


def test_one_observed_datum_is_left_out(pair, tree):
    import arviz as az

    alone = bj.sample(
        pair[0].replace(discrepancy=None), draws=60, tune=60, chains=2, random_seed=3,
        progress=False, backend="interpreted",
    )  # fmt: skip
    assert az.loo(alone, var_name="a").n_data_points == kept("a").size
    assert bj.leave_one_out(tree).attrs["report"] == "leave_one_out"


def test_replicated_data_have_errors_where_data_are_missing(pair):
    """Covariance of 4,000 draws (seed 5) at one point, within six standard errors."""
    from bayesjoint._compiled.draws import DrawEvaluator
    from bayesjoint._compiled.functions import compiled

    count = 4_000
    with compiled(pair[0]) as functions:
        table = functions.once(DrawEvaluator).table(np.zeros((1, count, functions.size)))
        drawn = table.posterior_predictive(rng(5))
    stacked = np.concatenate([drawn[n].values.reshape(count, 12) for n in "ab"], axis=1)
    expected = covariance_of({})
    variance = np.diag(expected)
    error = np.sqrt((np.outer(variance, variance) + expected**2) / count)
    assert np.max(np.abs(np.cov(stacked.T) - expected) / error) < 6.0


def test_nothing_is_replicated_where_errors_are_not_known(monkeypatch):
    """Where the sd is NaN, and where a process has too many places; the response is there."""
    noise = bj.GaussianNoise(sd=np.where(np.isin(np.arange(12), [1, 5]), np.nan, 0.3).reshape(3, 4))
    settings = {
        "draws": 20, "tune": 20, "chains": 1, "progress": False, "backend": "interpreted",
        "prior_draws": 10,
    }  # fmt: skip
    gaps = {"a": [1, 5, 10]}
    found = bj.sample(problems({"a": noise}, gaps, rows=cut)[0], random_seed=1, **settings)
    missing = found["posterior_predictive"]["a"].isnull().all(("chain", "draw")).values.ravel()
    assert np.flatnonzero(missing).tolist() == [1, 5]
    assert np.isnan(found["constant_data"]["a_noise_sd"].values.ravel()[[1, 5]]).all()
    assert found["posterior"]["a_response"].notnull().all()
    monkeypatch.setattr("bayesjoint._errors.checks.SHARED_POINTS", 10)
    few = problems({"a": GAUSSIAN}, gaps, discrepancy=DISCREPANCIES["of one"])[0]
    found = bj.sample(few, random_seed=1, **settings)
    missing = found["posterior_predictive"]["a"].isnull().all(("chain", "draw")).values.ravel()
    assert np.flatnonzero(missing).tolist() == gaps["a"]


def test_reports_count_the_observed_data(tree):
    assert tree["linearization"]["n_data"].values.tolist() == [9, 8]
    check = bj.predictive_check(tree)
    assert check["p_value"].notnull().sum() == 14  # but the autocorrelation of all together
    assert check["residual_pairs"].values.max() <= 8
    assert np.isfinite(check["residual_correlation"].values[0, 1])
    assert bj.leave_one_out(tree)["a_pit"].dims == ("a_observed",)


def test_residuals_of_missing_data_do_not_count(tree):
    """Predictive quantities against those of the observed residuals alone."""
    from bayesjoint.reports.predictive import _quantities, residuals

    block = residuals(tree)["a"]
    flat = block.observed.reshape(len(block.observed), 12)
    assert np.flatnonzero(np.isnan(flat).all(axis=0)).tolist() == GAPS["a"]
    known = flat[:, kept("a")]
    found = _quantities(block.observed.reshape(len(flat), 3, 4))
    expected = [known.mean(1), known.std(1), np.abs(known).max(1), (known**2).sum(1)]
    np.testing.assert_allclose(found[[0, 1, 2, 4]], expected, rtol=1e-12)


def test_the_worth_of_data(pair):
    first, second = (bj.data_worth(bj.linearize(p), {"theta": [1.0, -1.0, 0.5]}) for p in pair)
    np.testing.assert_allclose(first["sd_without_datum"], second["sd_without_datum"], **EXACT)
    places = np.concatenate([kept("a"), kept("b")])
    assert first["index_of_datum"].values.tolist() == places.tolist()


def test_data_left_out_in_groups(pair, tree):
    """Groups of rows of the image, of which one misses more than others and one all."""
    gaps = {"a": [1, 4, 5, 6, 7, 10]}
    first, second = problems({"a": GAUSSIAN}, gaps, discrepancy=DISCREPANCIES["of one"])
    left_out = bj.leave_out(first, tree, "a", "y_a", draws=50, random_seed=1)
    assert left_out["predicted"].isel(sample=0).isnull().equals(left_out["measured"].isnull())
    assert np.isnan(left_out["log_density"].values).tolist() == [False, True, False]
    assert left_out["region_probability"].notnull().values.tolist() == [True, False, True]
    flat = problems({"a": GAUSSIAN}, GAPS, flat=True, discrepancy=DISCREPANCIES["of one"])
    one, two = (bj.leave_out(p, tree, "a", "s_a", draws=50, random_seed=1) for p in flat)
    for name in ("log_density", "pareto_k", "region_probability"):
        np.testing.assert_allclose(one[name][kept("a")], two[name], rtol=1e-8)


def test_studies_of_correlated_errors(pair, tree):
    one, two = (bj.discrepancy_sweep(p, np.linspace(-0.9, 0.9, 5)) for p in pair)
    for name in ("posterior_sd", "eig", "dofs"):
        np.testing.assert_allclose(one[name], two[name], **EXACT)
    at = {"east": ("new", [0.0, 1.2]), "north": ("new", [0.5, 1.0])}
    one, two = (bj.predict_discrepancy(p, tree, at, random_seed=1, draws=20) for p in pair)
    np.testing.assert_allclose(one["a_discrepancy"], two["a_discrepancy"], **EXACT)


def test_a_modality_left_out(pair):
    nuts = {"draws": 60, "tune": 60, "chains": 1, "progress": False, "backend": "interpreted"}
    refit = {"a": bj.sample(pair[0].without("a"), random_seed=2, prior_draws=10, **nuts)}
    one, two = (
        bj.leave_modality_out(p, "a", draws=30, random_seed=1, refitted=refit) for p in pair
    )
    for name in ("log_density", "p_value", "gain"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-8)
    pit = one["a_pit"].values.ravel()
    np.testing.assert_allclose(pit[kept("a")], two["a_pit"], **EXACT)
    assert np.flatnonzero(np.isnan(pit)).tolist() == GAPS["a"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_figures_leave_gaps(tree):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    for plot in (
        bj.plot_fit, bj.plot_predictive_check, bj.plot_discrepancy, bj.plot_leave_one_out
    ):  # fmt: skip
        plot(tree).canvas.draw()
    plt.close("all")


# ---- stacked dims -------------------------------------------------------------------------------


def files_hold(tree, folder):
    """Write a tree as xarray and ArviZ do, and unstack what is read; its levels are plain."""
    tree.to_netcdf(folder / "tree.nc")
    tree.to_zarr(folder / "tree.zarr", consolidated=False)
    with az.from_netcdf(folder / "tree.nc") as one:
        for read in (one, az.from_zarr(folder / "tree.zarr", consolidated=False)):
            xr.testing.assert_equal(read["posterior"].to_dataset(), tree["posterior"].to_dataset())
            again = read["posterior"]["a_response"].set_index(pixel=["pixel_y_a", "pixel_x_a"])
            wanted = tree["posterior"]["a_response"].unstack("pixel")
            xr.testing.assert_equal(again.unstack("pixel"), wanted)
            xr.testing.assert_equal(bj.leave_one_out(read), bj.leave_one_out(tree))
            bj.plot_fit(read)


@pytest.mark.parametrize(
    "gaps", [pytest.param({}, marks=pytest.mark.slow), GAPS], ids=["complete", "with gaps"]
)
def test_data_of_a_stacked_dim(gaps, tmp_path):
    """Everything in memory; a latent has the dims that were stacked."""
    data = image("a", with_gaps("a", gaps)).drop_vars(["east", "north"])
    field = bj.GaussianField(
        "field", bj.Grid(y_a=[0.0, 1.0, 2.0], x_a=[0.0, 1.0, 2.0, 3.0]), sd=1.0, length_scale=1.0
    )
    discrepancy = bj.JointDiscrepancy(sd={"a": 0.3}, on=("y_a", "x_a"), length_scale=2.0)
    flat, stacked = (
        bj.JointProblem(
            latents=[field],
            modalities=[
                bj.Modality("a", d, bj.linear_map(np.eye(12), "field"), GAUSSIAN, missing="drop")
            ],
            discrepancy=discrepancy,
        )
        for d in (data, data.stack(pixel=("y_a", "x_a")))
    )
    compare(flat, stacked)
    simulated = bj.simulate(stacked, random_seed=1)
    other = stacked.with_data(simulated[["a"]])
    assert other.pool is stacked.pool
    np.testing.assert_array_equal(
        simulated["a"].isnull(), data.stack(pixel=("y_a", "x_a")).isnull()
    )
    drawn = bj.sample(
        stacked, draws=40, tune=40, chains=2, random_seed=1, progress=False,
        backend="interpreted", prior_draws=10,
    )  # fmt: skip
    index = drawn["posterior"].to_dataset().indexes["pixel_y_a"]
    assert index.names == ["pixel_y_a", "pixel_x_a"]
    assert list(index) == [(y, x) for y in range(3) for x in range(4)]
    field = drawn["posterior"]["field"]
    for group in ("posterior_predictive", "observed_data", "prior_predictive"):
        assert drawn[group].to_dataset().indexes["pixel_x_a"].equals(index)
    for tree in (drawn, pickle.loads(pickle.dumps(drawn)), copy.deepcopy(drawn)):
        unstacked = tree["posterior"]["a_response"].unstack("pixel")
        np.testing.assert_allclose(unstacked.values, field.values, **EXACT)
    levels = drawn["posterior"].to_dataset()
    row = levels.sel(pixel_y_a=1.0)["a_response"]
    np.testing.assert_allclose(row.values, field.sel(y_a=1.0).values, **EXACT)
    np.testing.assert_allclose(
        levels.isel(pixel=[1, 6])["a_response"].values,
        field.values.reshape(2, 40, 12)[..., [1, 6]], **EXACT,
    )  # fmt: skip
    files_hold(drawn, tmp_path)
    bj.predictive_check(drawn), bj.leave_one_out(drawn), bj.resolution(drawn)
    bj.leave_out(stacked, drawn, "a", "pixel", random_seed=1)
