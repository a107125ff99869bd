"""What is no array of real numbers is refused in our words; what is given is copied."""

import pickle

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy import sparse

import bayesjoint as bj
from tests.faithful import closed_form, letters, posterior, problem, refused, require, unknown

DATA = np.array([1.0, 2.0, 4.0])
GAIN = DATA[:, None]
COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 4.0, 1.0], [0.1, 1.0, 9.0]])
LINE = bj.Grid(x=[0.0, 1.0, 2.0])


# ---- complex, masked, huge ---------------------------------------------------------------------


def complex_problem(seed=6, size=4):
    """Return data, matrix and covariance of complex data of two real unknowns."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(size, 2)) + 1j * rng.normal(size=(size, 2))
    data = rng.normal(size=size) + 1j * rng.normal(size=size)
    return matrix, xr.DataArray(data, {"f": np.arange(1.0, size + 1)}, "f")


VECTOR = unknown(coords={"channel": ["u", "v"]})


def stacked(data, matrix, noise):
    forward = bj.linear_map(bj.real_and_imaginary(matrix), "th")
    modality = bj.Modality("m", bj.real_and_imaginary(data), forward, noise)
    return bj.JointProblem(latents=[VECTOR], modalities=[modality])


def test_complex_data_are_complex_least_squares():
    """With circular noise: ``(I + 2 Re(A^H A) / s^2)^-1 2 Re(A^H d) / s^2``."""
    matrix, data = complex_problem()
    scale = 0.3
    precision = np.eye(2) + 2.0 * (matrix.conj().T @ matrix).real / scale**2
    mean = np.linalg.solve(precision, 2.0 * (matrix.conj().T @ data.values).real / scale**2)
    made = stacked(data, matrix, bj.GaussianNoise(sd=scale / np.sqrt(2)))
    require(posterior(made), (mean, np.sqrt(np.diag(np.linalg.inv(precision)))))
    sparsely = stacked(data, sparse.csr_array(matrix), bj.GaussianNoise(sd=scale / np.sqrt(2)))
    require(posterior(sparsely), (mean, np.sqrt(np.diag(np.linalg.inv(precision)))))


def test_complex_noise_may_be_correlated_and_not_circular():
    """The covariance of the parts is that stated in the notes, checked against a simulation."""
    rng = np.random.default_rng(7)
    matrix, data = complex_problem()
    root = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    skew = 0.4 * (rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))
    draws = rng.normal(size=(4, 400_000)) + 1j * rng.normal(size=(4, 400_000))
    errors = root @ draws + skew @ draws.conj()
    c, p = errors @ errors.conj().T / 400_000, errors @ errors.T / 400_000
    covariance = np.block([[(c + p).real, (p - c).imag], [(c + p).imag, (c - p).real]]) / 2.0
    parts = np.concatenate([errors.real, errors.imag])
    np.testing.assert_allclose(covariance, parts @ parts.T / 400_000, rtol=1e-9, atol=1e-9)
    real = bj.real_and_imaginary(data).stack(both=("part", "f")).reset_index("both", drop=True)
    forward = bj.linear_map(bj.real_and_imaginary(matrix), "th")
    modality = bj.Modality("m", real, forward, bj.CorrelatedNoise(covariance=covariance))
    found = posterior(bj.JointProblem(latents=[VECTOR], modalities=[modality]))
    both = np.concatenate([matrix.real, matrix.imag])
    require(found, closed_form(both, real.values, covariance))


def test_parts_keep_labels_and_units():
    _, data = complex_problem()
    parts = bj.real_and_imaginary(data.assign_attrs(units="V").rename("voltage"))
    assert parts.dims == ("part", "f")
    assert list(parts["part"].values) == ["real", "imaginary"]
    assert parts.attrs["units"] == "V"
    np.testing.assert_array_equal(parts.sel(part="imaginary"), data.values.imag)
    quantity = bj.real_and_imaginary(letters(np.array([1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(quantity.sel(part="imaginary"), 0.0)


@pytest.mark.parametrize("values", ["text", None, {"a": 1j}, [["a"]], letters(list("abc"))])
def test_parts_of_what_is_no_number_are_refused(values):
    refused(lambda: bj.real_and_imaginary(values), "real_and_imaginary")


COMPLEX = {
    "data": lambda: problem(letters(DATA + 1j)),
    "sd": lambda: bj.GaussianNoise(sd=DATA + 1j),
    "one sd": lambda: bj.GaussianNoise(sd=1.0 + 1j),
    "covariance": lambda: bj.CorrelatedNoise(covariance=COVARIANCE + 0j),
    "matrix": lambda: bj.linear_map(GAIN + 1j, "th"),
    "sparse": lambda: bj.linear_map(sparse.csr_array(GAIN + 1j), "th"),
    "observe": lambda: problem(letters(), matrix=np.ones((3, 1)), observe=np.eye(3) + 1j),
    "operator": lambda: problem(letters(), observe=sparse.csr_array(np.eye(3) + 1j)),
    "mean": lambda: bj.GaussianField("f", LINE, sd=1.0, length_scale=1.0, mean=1j),
    "precision": lambda: bj.GaussianField("f", LINE, precision=np.eye(3) + 1j),
    "sparse precision": lambda: bj.GaussianField("f", LINE, precision=sparse.eye_array(3) * 1j),
    "grid": lambda: bj.Grid(x=DATA + 1j),
    "length": lambda: bj.GaussianField("f", LINE, sd=1.0, length_scale=1j),
    "prior": lambda: bj.Prior(pm.Normal, mu=1j, sigma=1.0),
    "discrepancy": lambda: bj.JointDiscrepancy(sd={"m": 1j}),
    "correlation": lambda: bj.JointDiscrepancy(sd={"m": 1.0, "n": 1.0}, correlation=1j),
    "weight": lambda: bj.CrossGradient("a", "b", weight=1j),
    "list": lambda: bj.GaussianNoise(sd=[1.0, 1j, 2.0]),
    "object": lambda: bj.GaussianNoise(sd=np.array([1.0, 1j, 2.0], dtype=object)),
}


@pytest.mark.parametrize("make", COMPLEX.values(), ids=COMPLEX)
def test_complex_numbers_are_refused_elsewhere(make):
    refused(make)


def test_masked_data_are_missing():
    """Refused as missing by default; their hidden values never count."""
    hidden = np.ma.masked_array([1.0, 99.0, 4.0], [False, True, False])
    refused(lambda: problem(letters().copy(data=hidden)), "NaN")
    sd = np.ma.masked_array([1.0, 99.0, 4.0], [False, True, False])
    refused(lambda: problem(letters(), bj.GaussianNoise(sd=sd)), "modality 'm'")
    refused(lambda: bj.linear_map(np.ma.masked_array(GAIN, GAIN > 3), "th"), "masked")
    whole = np.ma.masked_array(DATA, False)
    found = posterior(problem(letters(), bj.GaussianNoise(sd=whole)))
    require(found, closed_form(np.ones(3), DATA, np.diag(DATA**2)))


@pytest.mark.parametrize("count", [1e19, 2.0**53 + 2, np.uint64(2**63 + 5), np.int64(2**60)])
def test_counts_that_cannot_be_told_apart_are_refused(count):
    """1e19 became negative."""
    data = letters(np.array([count, count, count]))
    rate = bj.pytensor_map(lambda th: np.ones(3) * th**2, "th")
    refused(lambda: bj.Modality("m", data, rate, bj.PoissonNoise()), "modality 'm'")


def test_large_counts_are_counts():
    data = letters(np.array([2**52, 2**53, 3], dtype="uint64"))
    rate = bj.pytensor_map(lambda th: np.ones(3) * th**2, "th")
    modality = bj.Modality("m", data, rate, bj.PoissonNoise())
    np.testing.assert_array_equal(modality.numbers(), [2**52, 2**53, 3])
    assert modality.numbers().dtype == np.int64


# ---- copies ------------------------------------------------------------------------------------


def test_arrays_changed_afterwards_change_nothing():
    """``v += 100`` changed the posterior."""
    values, sd, matrix = DATA.copy(), DATA.copy(), np.eye(3)
    mean, precision = DATA.copy(), COVARIANCE.copy()
    axis = np.array([0.0, 1.0, 2.0])
    labels = np.array([1.0, 2.0, 3.0])
    field = bj.GaussianField("th", bj.Grid(x=axis), precision=precision, mean=mean)
    data = xr.DataArray(values, {"s": labels}, "s")
    made = problem(data, bj.GaussianNoise(sd=sd), matrix, latents=[field])
    for array in (values, sd, matrix, mean, precision, axis, labels):
        array += 100.0
    data += 5.0
    data.attrs["units"] = "km"
    prior = np.linalg.inv(COVARIANCE)
    require(posterior(made), closed_form(np.eye(3), DATA, np.diag(DATA**2), prior, DATA))
    assert made.modality["m"].units is None
    np.testing.assert_array_equal(made.modality["m"].data["s"], [1.0, 2.0, 3.0])


def test_matrices_and_mappings_changed_afterwards_change_nothing():
    covariance, matrix = COVARIANCE.copy(), sparse.csr_array(GAIN)
    sds, correlation = {"m": 0.5, "n": 0.5}, np.array([[1.0, 0.5], [0.5, 1.0]])
    errors = bj.JointDiscrepancy(sd=sds, correlation=correlation)
    block = COVARIANCE.copy()
    blocks = {("m", "m"): block}
    given = bj.JointDiscrepancy(covariance=blocks)
    noise = bj.CorrelatedNoise(covariance=covariance)
    forward = bj.linear_map(matrix, "th")
    frame = pd.DataFrame(COVARIANCE, list("abc"), list("abc"))
    labelled = bj.CorrelatedNoise(covariance=frame)
    parameters = np.array([0.0, 1.0])
    prior = bj.Prior(pm.Normal, mu=parameters, sigma=1.0)
    channels = np.array(["u", "v"])
    latent = bj.Parameter("v", prior, coords={"channel": channels})
    covariance += 100.0
    matrix.data += 100.0
    correlation[0, 1] = 0.9
    sds["m"] = 7.0
    block += 100.0
    frame.iloc[0, 0] = 77.0
    parameters += 100.0
    channels[0] = "w"
    found = posterior(problem(letters(), noise, forward=forward))
    require(found, closed_form(GAIN, DATA, COVARIANCE))
    require(posterior(problem(letters(), labelled)), closed_form(np.ones(3), DATA, COVARIANCE))
    assert errors.sd["m"] == 0.5
    assert errors.correlation[0, 1] == 0.5
    np.testing.assert_array_equal(given.covariance["m", "m"], COVARIANCE)
    np.testing.assert_array_equal(prior.parameters["mu"], [0.0, 1.0])
    assert list(latent.coords["channel"]) == ["u", "v"]


def test_what_is_kept_cannot_be_changed():
    made = problem(letters(), bj.GaussianNoise(sd=DATA), GAIN)
    modality = made.modality["m"]
    for array in (modality.data.values, modality.noise.sd, modality.forward.matrices[0]):
        with pytest.raises(ValueError, match="read-only"):
            array += 1.0
    again = pickle.loads(pickle.dumps(made))
    require(posterior(again), closed_form(GAIN, DATA, np.diag(DATA**2)))


# ---- types -------------------------------------------------------------------------------------

FLAT = bj.GaussianNoise(sd=0.1)


def errors(**settings):
    return bj.JointDiscrepancy(sd={"m": 1.0}, on="s", length_scale=1.0, **settings)


MAP = bj.linear_map(GAIN, "th")
WRONG = {
    "text as sd": lambda: problem(letters(), bj.GaussianNoise(sd="0.1")),
    "dict as sd": lambda: problem(letters(), bj.GaussianNoise(sd={"m": 0.1})),
    "texts as sd": lambda: problem(letters(), bj.GaussianNoise(sd=["0.1", "a", "b"])),
    "ragged sd": lambda: problem(letters(), bj.GaussianNoise(sd=[[1.0], [1.0, 2.0]])),
    "dataset as sd": lambda: bj.GaussianNoise(sd=letters().to_dataset(name="a")),
    "function as sd": lambda: problem(letters(), bj.GaussianNoise(sd=np.sqrt)),
    "class as sd": lambda: problem(letters(), bj.GaussianNoise(sd=pm.HalfNormal)),
    "text as scale": lambda: problem(letters(), bj.GaussianNoise(sd=0.1, scale="a")),
    "text as nu": lambda: bj.StudentTNoise(sd=0.1, nu="four"),
    "text as covariance": lambda: bj.CorrelatedNoise(covariance="identity"),
    "dict as covariance": lambda: bj.CorrelatedNoise(covariance={"a": 1.0}),
    "lengths with a prior": lambda: bj.GaussianField(
        "f", LINE, sd=1.0, length_scale={"x": bj.Prior(pm.HalfNormal, sigma=1.0)}
    ),
    "text as length": lambda: bj.GaussianField("f", LINE, sd=1.0, length_scale="long"),
    "list as length": lambda: bj.GaussianField("f", LINE, sd=1.0, length_scale=[1.0, 2.0]),
    "text as smoothness": lambda: bj.GaussianField(
        "f", LINE, sd=1.0, length_scale=1.0, smoothness="rough"
    ),
    "text as mean": lambda: bj.GaussianField("f", LINE, sd=1.0, length_scale=1.0, mean="a"),
    "dict as grid": lambda: bj.GaussianField("f", {"x": DATA}, sd=1.0, length_scale=1.0),
    "text as axis": lambda: bj.Grid(x="abc"),
    "texts as axis": lambda: bj.Grid(x=["a", "b"]),
    "none as axis": lambda: bj.Grid(x=None),
    "rank of a half": lambda: errors(rank=1.5),
    "text as rank": lambda: errors(rank="two"),
    "negative rank": lambda: errors(rank=-1),
    "text as sd of errors": lambda: bj.JointDiscrepancy(sd={"m": "one"}),
    "text as correlation": lambda: bj.JointDiscrepancy(sd={"m": 1.0, "n": 1.0}, correlation="high"),
    "dims that are numbers": lambda: problem(xr.DataArray(DATA, dims=[0])),
    "data of text": lambda: problem(letters(list("xyz"))),
    "data of objects": lambda: problem(letters(np.array([1.0, None, "a"], dtype=object))),
    "data as list": lambda: bj.Modality("m", [1.0, 2.0], MAP, FLAT),
    "data as dataset": lambda: bj.Modality("m", letters().to_dataset(name="m"), MAP, FLAT),
    "noise as number": lambda: bj.Modality("m", letters(), MAP, 0.1),
    "noise as class": lambda: bj.Modality("m", letters(), MAP, bj.PoissonNoise),
    "matrix as map": lambda: bj.Modality("m", letters(), GAIN, FLAT),
    "text as power": lambda: bj.Modality("m", letters(), MAP, FLAT, power="half"),
    "text as observe": lambda: bj.Modality("m", letters(), MAP, FLAT, observe="all"),
    "vector as observe": lambda: bj.Modality("m", letters(), MAP, FLAT, observe=DATA),
    "none as latents": lambda: bj.JointProblem(latents=None, modalities=[]),
    "a none among latents": lambda: bj.JointProblem(latents=[None], modalities=[]),
    "names as latents": lambda: bj.JointProblem(latents=["th"], modalities=[]),
    "none as modalities": lambda: bj.JointProblem(latents=[unknown()], modalities=None),
    "names as modalities": lambda: bj.JointProblem(latents=[unknown()], modalities=["m"]),
    "a number as coupling": lambda: problem(letters(), couplings=1.0),
    "text as discrepancy": lambda: problem(letters(), discrepancy="some"),
    "arguments swapped": lambda: bj.linear_map("th", GAIN),
    "name as number": lambda: bj.linear_map(GAIN, 3),
    "no name": lambda: bj.linear_map(GAIN),
    "text as matrix": lambda: bj.linear_map({"th": "ones"}, None),
    "vector as matrix": lambda: bj.linear_map(DATA, "th"),
    "map as matrix": lambda: bj.linear_map(lambda th: th, "th"),
    "matrix as function": lambda: bj.pytensor_map(GAIN, "th"),
    "names swapped": lambda: bj.numpy_map("th", lambda th: th),
    "number as names": lambda: bj.pytensor_map(lambda th: th, [3]),
    "none as names": lambda: bj.pytensor_map(lambda th: th, None),
    "no derivative": lambda: bj.numpy_map(lambda th: th, "th"),
    "prior as text": lambda: bj.Parameter("th", "normal"),
    "coords as list": lambda: unknown(coords=["a", "b"]),
    "distribution as text": lambda: bj.Prior("Normal", mu=0.0),
    "text in a prior": lambda: bj.Prior(pm.Normal, mu="zero", sigma=1.0),
    "data to with_data": lambda: problem(letters()).with_data(letters()),
    "list to sample": lambda: bj.sample([problem(letters())]),
    "list to linearize": lambda: bj.linearize([problem(letters())]),
    "list to simulate": lambda: bj.simulate([problem(letters())]),
    "list to build_model": lambda: bj.build_model([problem(letters())]),
    "list as truth": lambda: bj.simulate(problem(letters()), truth=[1.0]),
    "truth of another": lambda: bj.simulate(problem(letters()), truth={"other": 1.0}),
    "list as point": lambda: bj.linearize(problem(letters()), at=[1.0]),
    "none from a map": lambda: problem(
        letters(), forward=bj.pytensor_map(lambda th: None, "th")
    ),
    "none from a black box": lambda: problem(
        letters(), forward=bj.numpy_map(lambda th: None, "th", jacobian=lambda th: GAIN)
    ),
    "none from a jacobian": lambda: problem(
        letters(), forward=bj.numpy_map(lambda th: DATA * th, "th", jacobian=lambda th: None)
    ),
    "a shape from a map": lambda: problem(
        letters(), forward=bj.pytensor_map(lambda th: th * np.ones(4), "th")
    ),
    "a shape from a black box": lambda: problem(
        letters(),
        forward=bj.numpy_map(lambda th: np.ones(4) * th, "th", jacobian=lambda th: np.ones((4, 1))),
    ),
    "text from a black box": lambda: problem(
        letters(), forward=bj.numpy_map(lambda th: "abc", "th", jacobian=lambda th: GAIN)
    ),
    "complex from a black box": lambda: problem(
        letters(), forward=bj.numpy_map(lambda th: 1j * DATA * th, "th", jacobian=lambda th: GAIN)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*reaches:UserWarning")
@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_wrong_types_are_refused_in_our_words(make):
    refused(make)


def test_one_coupling_will_do():
    fields = [bj.GaussianField(n, LINE, sd=1.0, length_scale=1.0) for n in ("a", "b")]
    coupling = bj.CorrelatedFields("a", "b", correlation=0.5)
    made = bj.JointProblem(latents=fields, modalities=[], couplings=coupling)
    assert made.couplings == (coupling,)


def test_lists_and_sparse_matrices_will_do():
    for covariance in (COVARIANCE.tolist(), sparse.csc_matrix(COVARIANCE)):
        found = posterior(problem(letters(), bj.CorrelatedNoise(covariance=covariance)))
        require(found, closed_form(np.ones(3), DATA, COVARIANCE))
    found = posterior(problem(letters(), matrix=GAIN.tolist()))
    require(found, closed_form(GAIN, DATA, 0.01 * np.eye(3)))
    blocks = {("m", "m"): sparse.csr_array(COVARIANCE)}
    found = posterior(problem(letters(), discrepancy=bj.JointDiscrepancy(covariance=blocks)))
    require(found, closed_form(np.ones(3), DATA, COVARIANCE + 0.01 * np.eye(3)))
