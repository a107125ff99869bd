"""Every public argument that takes an array, found by introspection, reads all kinds of arrays.

The same numbers in another form give the same result, or an error of ours.  A new argument must be
entered here, as an array or with the reason why it is none.
"""

import inspect
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pint
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint.couplings import _common
from bayesjoint.noise import sd_of_data
from tests.faithful import PACKAGE, letters, unknown

DATA = np.array([1.0, 2.0, 4.0])
SQUARE = np.array([[4.0, 1.0, 0.0], [1.0, 9.0, 2.0], [0.0, 2.0, 16.0]])
MATRIX = np.array([[1.0, 2.0], [5.0, 3.0], [7.0, 4.0]])
RAGGED = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]])
LABELS, CHANNELS, PLACES = list("abc"), ["u", "v"], [0.0, 1.0, 2.0]
LINE = bj.Grid(x=PLACES)
AREA = bj.Grid(z=[0.0, 1.0], x=PLACES)
FLAT = bj.GaussianNoise(sd=0.1)
SCALAR, VECTOR = unknown(units="m"), unknown(coords={"channel": CHANNELS}, units="m")
METRES = letters(DATA, units="m")


# ---- the small problems around each argument ---------------------------------------------------


def modality(data: Any = METRES, forward: Any = None, noise: Any = FLAT, **settings: Any) -> Any:
    forward = bj.linear_map(np.ones((3, 1)), "th") if forward is None else forward
    return bj.Modality("m", data, forward, noise, **settings)


def problem(latent: Any = SCALAR, forward: Any = None, **settings: Any) -> Any:
    return bj.JointProblem(latents=[latent], modalities=[modality(forward=forward)], **settings)


def fields(names: str = "ab", grid: Any = AREA) -> list:
    return [bj.GaussianField(n, grid, sd=1.0, length_scale=1.0) for n in names]


def coupled(coupling: Any) -> Any:
    return bj.JointProblem(latents=fields(), modalities=[], couplings=coupling).couplings[0]


def weights(coupling: Any) -> np.ndarray:
    inside = _common.cells_of("mask", coupling.mask, AREA)
    return _common.cell_weights("weight", coupling.weight, inside, AREA)


TRUTHS = bj.JointProblem(
    latents=[VECTOR],
    modalities=[modality(forward=bj.linear_map(MATRIX, "th"), noise=bj.GaussianNoise(sd=1e-9))],
)
TREES: dict[str, Any] = {}


def tree() -> Any:
    if "worth" not in TREES:
        forward = bj.linear_map(MATRIX, "th")
        TREES["worth"] = bj.linearize(bj.JointProblem(
            latents=[VECTOR.replace(units=None)], modalities=[modality(forward=forward)]
        ))  # fmt: skip
    return TREES["worth"]


def draws() -> Any:
    if "draws" not in TREES:
        rng = np.random.default_rng(0)
        coords = {"z": [0.0, 1.0], "x": PLACES}
        TREES["draws"] = xr.DataTree.from_dict({
            group: xr.Dataset(
                {n: (("chain", "draw", "z", "x"), rng.normal(size=(1, 9, 2, 3))) for n in "ab"},
                coords,
            )
            for group in ("posterior", "prior")
        })  # fmt: skip
    return TREES["draws"]


def worth(**settings: Any) -> np.ndarray:
    settings = {"prediction": {"th": [1.0, 2.0]}} | settings
    report = bj.data_worth(tree(), **settings)
    name = "sd_with_candidate" if "candidates" in settings else "sd"
    found = report[name]
    return found.sel(candidate=LABELS).values if "candidate" in found.coords else found.values


def mixture(**settings: Any) -> Any:
    given = {
        "proportions": [0.5, 0.3, 0.2], "means": {"a": [1.0, 2.0, 3.0]},
        "sds": {"a": [0.1, 0.2, 0.3]},
    }  # fmt: skip
    return bj.PropertyMixture("rock", labels=LABELS, **given | settings)


CANDIDATES = xr.DataArray(
    [[1.0, 0.0], [1.0, 2.0], [2.0, 3.0]],
    {"candidate": LABELS, "channel": CHANNELS}, ("candidate", "channel"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One argument that takes an array.

    Attributes
    ----------
    make : callable
        From the array to what it means inside.
    plain : array
        Whole numbers in double precision, or of True and False.
    labels : dict of dim to labels
        Of the place where it belongs; none where it has no labels.
    unit : str
        In which it is wanted.
    only_labelled : bool
        Whether a bare array is refused.
    differ : dict
        What is expected of a variant where it is not the general rule.
    """

    make: Callable[[Any], Any]
    plain: np.ndarray
    labels: dict[str, list] = field(default_factory=dict)
    unit: str | None = None
    only_labelled: bool = False
    differ: dict[str, str] = field(default_factory=dict)


ROWS = {"s": LABELS}
CELLS = {"z": [0.0, 1.0], "x": PLACES}
MASK = RAGGED > 2.0
CASES = {
    ("GaussianNoise", "sd"): Case(
        lambda v: sd_of_data("m", modality(noise=bj.GaussianNoise(sd=v)).noise.sd, METRES),
        DATA, ROWS, "m",
    ),
    ("StudentTNoise", "sd"): Case(
        lambda v: sd_of_data("m", modality(noise=bj.StudentTNoise(sd=v, nu=4)).noise.sd, METRES),
        DATA, ROWS, "m",
    ),
    ("CorrelatedNoise", "covariance"): Case(
        lambda v: modality(noise=bj.CorrelatedNoise(covariance=v)).noise.matrix,
        SQUARE, {"s": LABELS, "s_2": LABELS}, "m^2",
    ),
    ("Modality", "data"): Case(
        lambda v: modality(v).data.sortby("s").values, DATA, ROWS, only_labelled=True,
        differ={"foreign": "either"},
    ),
    ("JointProblem.with_data", "data"): Case(
        lambda v: problem().with_data({"m": v}).modality["m"].data.values, DATA, ROWS, "m",
    ),
    ("Modality", "observe"): Case(
        lambda v: modality(forward=bj.linear_map(np.ones((2, 1)), "th"), observe=v)
        .operator.matrix_times(np.eye(2)),
        MATRIX, {"s": LABELS}, differ={"list": "refused"},
    ),
    ("linear_map", "matrix"): Case(
        lambda v: problem(VECTOR, bj.linear_map(v, "th")).modality["m"].forward.matrices[0],
        MATRIX, {"s": LABELS, "channel": CHANNELS},
        differ={"timedelta": "refused", "quantity": "either"},
    ),
    ("GaussianField", "mean"): Case(
        lambda v: bj.GaussianField("f", AREA, sd=1.0, length_scale=1.0, mean=v, units="m").mean,
        RAGGED, CELLS, "m",
    ),
    ("GaussianField", "precision"): Case(
        lambda v: bj.GaussianField("f", LINE, precision=v, units="m").precision,
        SQUARE, {"x": PLACES, "x_2": PLACES}, "1/m^2",
    ),
    ("Grid", "centres"): Case(
        lambda v: bj.Grid(x=v).centres["x"], DATA, differ={"quantity": "either"}
    ),
    ("JointDiscrepancy", "correlation"): Case(
        lambda v: bj.JointDiscrepancy(sd=dict.fromkeys("abc", 1.0), correlation=v).correlation,
        np.eye(3), {"one": LABELS, "two": LABELS}, "1",
    ),
    ("JointDiscrepancy", "covariance"): Case(
        lambda v: problem(discrepancy=bj.JointDiscrepancy(covariance={("m", "m"): v}))
        .discrepancies[0].covariance["m", "m"],
        SQUARE, {"s": LABELS, "s_2": LABELS}, "m^2",
    ),
    ("CorrelatedFields", "correlation"): Case(
        lambda v: bj.CorrelatedFields("a", "b", "c", correlation=v).correlation,
        np.eye(3), {"one": LABELS, "two": LABELS}, "1",
    ),
    **{
        (name, "weight"): Case(
            lambda v, kind=name: weights(coupled(_coupling(kind, weight=v))), RAGGED, CELLS
        )
        for name in ("CrossGradient", "JointTotalVariation", "JointSparsity")
    },
    **{
        (name, "mask"): Case(
            lambda v, kind=name: weights(coupled(_coupling(kind, mask=v))), MASK, CELLS
        )
        for name in ("CrossGradient", "JointTotalVariation", "JointSparsity")
    },
    ("PropertyMixture", "proportions"): Case(
        lambda v: mixture(proportions=v).proportions, np.array([0.5, 0.375, 0.125]),
        {"unit": LABELS}, differ={"integers": "refused", "timedelta": "refused"},
    ),
    ("PropertyMixture", "means"): Case(
        lambda v: mixture(means={"a": v}).means["a"], DATA, {"unit": LABELS},
        differ={"quantity": "either"},
    ),
    ("PropertyMixture", "sds"): Case(
        lambda v: mixture(sds={"a": v}).sds["a"], DATA, {"unit": LABELS},
        differ={"quantity": "either"},
    ),
    ("PropertyMixture", "correlation"): Case(
        lambda v: mixture(
            means={n: DATA for n in "abc"}, sds={n: DATA for n in "abc"}, correlation=v
        ).correlation,
        np.eye(3), {"one": LABELS, "two": LABELS}, "1",
    ),
    ("simulate", "truth"): Case(
        lambda v: np.round(bj.simulate(TRUTHS, truth={"th": v}, random_seed=1)["m"].values, 6),
        np.array([1.0, 2.0]), {"channel": CHANNELS}, "m",
    ),
    ("linearize", "at"): Case(
        lambda v: bj.linearize(TRUTHS, at={"th": v})["linearization"]["th"].values,
        np.array([1.0, 2.0]), {"channel": CHANNELS}, "m",
    ),
    ("alignment", "mask"): Case(
        lambda v: bj.alignment(draws(), mask=v).to_dataarray().values, MASK, CELLS
    ),
    ("data_worth", "prediction"): Case(
        lambda v: worth(prediction={"th": v}), np.array([1.0, 2.0]), {"channel": CHANNELS},
    ),
    ("data_worth", "candidates"): Case(
        lambda v: worth(candidates={"th": v}, candidate_sd=1.0),
        CANDIDATES.values, {"candidate": LABELS, "channel": CHANNELS}, only_labelled=True,
        differ={"foreign": "left out"},
    ),
    ("data_worth", "candidate_sd"): Case(
        lambda v: worth(candidates={"th": CANDIDATES}, candidate_sd=v), DATA,
        {"candidate": LABELS},
    ),
    ("Prior", "parameters"): Case(
        lambda v: bj.Prior(pm.Normal, mu=v, sigma=1.0).parameters["mu"], DATA,
        differ={"quantity": "refused"},
    ),
    **{
        (name, "coords"): Case(
            lambda v, maker=maker: np.asarray(maker(v).coords["x"]), DATA,
            differ={"quantity": "either", "masked": "refused", "timedelta": "either"},
        )
        for name, maker in {
            "linear_map": lambda v: bj.linear_map(np.ones((3, 1)), "th", coords={"x": v}),
            "pytensor_map": lambda v: bj.pytensor_map(lambda th: th, "th", coords={"x": v}),
            "numpy_map": lambda v: bj.numpy_map(
                lambda th: th, "th", finite_differences=True, coords={"x": v}
            ),
        }.items()
    },
    ("real_and_imaginary", "values"): Case(
        lambda v: np.asarray(bj.real_and_imaginary(v)), DATA,
        differ={"complex": "left out", "quantity": "refused", "nan": "left out"},
    ),
}  # fmt: skip


def _coupling(kind: str, **settings: Any) -> Any:
    needed = {"weight": 1.0, "scales": {"a": 1.0, "b": 1.0}} | settings
    if kind == "CrossGradient":
        return bj.CrossGradient("a", "b", **{"weight": 1.0} | settings)
    return getattr(bj, kind)("a", "b", **{"epsilon": 0.1} | needed)


# ---- what is no array --------------------------------------------------------------------------

REASONS = {
    "a name, or several": "name names first second latent latents given modality source into pair "
    "labels mixture dim on shaped",
    "a choice among words": "form normalisation kernel backend units input_units output_units "
    "equalise refit missing",
    "a part made by bj classes": "problem grid noise forward of prior modalities couplings "
    "coupling discrepancy normaliser distribution",
    "a tree or report of ours": "dt reference separate null table sweep design cost report "
    "predicted posterior refitted similarity groups",
    "a function of the user": "function jacobian jvp vjp",
    "a count or a seed": "draws tune chains random_seed cores replicates starts largest "
    "prior_draws checkpoint nuts nuts_at rank",
    "one number, read by arrays.number": "scale nu smoothness power epsilon floor leakage up_to "
    "probability tolerance threshold target_accept period origin",
    "a switch": "progress resume overwrite keep_white finite_differences",
    "a path or title": "store path title",
    "an executor": "executor",
    "passed on to another function of ours": "settings",
}
NOT_ARRAYS = {name: reason for reason, names in REASONS.items() for name in names.split()}
OTHERWISE = {
    ("JointDiscrepancy", "sd"): "one number for each modality",
    ("JointDiscrepancy", "loadings"): "one number for each modality",
    ("JointDiscrepancy", "length_scale"): "one number for each coordinate",
    ("JointDiscrepancy", "_fit"): "made by the problem",
    ("GaussianField", "sd"): "one number",
    ("GaussianField", "length_scale"): "one number for each dimension",
    ("CrossGradient", "guide"): "a DataArray on the grid; see test_couplings",
    ("CrossGradient", "scales"): "one number for each field",
    ("JointTotalVariation", "scales"): "one number for each field",
    ("JointSparsity", "scales"): "one number for each field",
    ("PropertyRelation", "coefficients"): "one prior or number for each name",
    ("Parameter", "coords"): "labels, of any kind",
    ("alignment", "pairs"): "pairs of names",
    ("plot_data_worth", "prediction"): "passed on to data_worth",
    ("point_spread", "coords"): "one number for each dim",
    ("plot_point_spread", "coords"): "one number for each dim",
    ("coupling_sweep", "weights"): "numbers that are swept",
    ("coupling_sweep", "at"): "passed on to linearize",
    ("design_weight", "at"): "passed on to linearize",
    ("discrepancy_cost", "at"): "passed on to linearize",
    ("discrepancy_cost", "correlation"): "numbers that are swept",
    ("discrepancy_sweep", "at"): "passed on to linearize",
    ("discrepancy_sweep", "correlation"): "numbers that are swept",
    ("discrepancy_sweep", "sd_factor"): "numbers that are swept",
    ("discrepancy_sweep", "length_scale"): "numbers that are swept",
    ("tension_null", "at"): "passed on to linearize",
    ("tabulate_normaliser", "length_scale"): "a pair of numbers for each field",
    ("tabulate_normaliser", "weights"): "a count",
    ("tabulate_normaliser", "length_scales"): "a count",
    ("predict_discrepancy", "at"): "coordinates of new data; see test_discrepancy_prediction",
    ("plot_discrepancy_cost", "parameters"): "names",
    ("plot_discrepancy_sweep", "parameters"): "names",
}  # fmt: skip


def public_arguments() -> list[tuple[str, str]]:
    return [
        (name, parameter)
        for name in bj.__all__
        for parameter in inspect.signature(getattr(bj, name)).parameters
    ]


def test_every_public_argument_is_an_array_here_or_has_a_reason():
    unlisted = [
        pair for pair in public_arguments()
        if pair not in CASES and pair not in OTHERWISE and pair[1] not in NOT_ARRAYS
    ]  # fmt: skip
    assert not unlisted, "enter new arguments in CASES, or say why they are no arrays"


def test_nothing_is_listed_that_is_gone():
    there = set(public_arguments())
    assert set(OTHERWISE) <= there
    assert {pair for pair in CASES if "." not in pair[0]} <= there


# ---- variants ----------------------------------------------------------------------------------


def variants(case: Case) -> dict[str, tuple[Any, str]]:
    """Return an array in many forms, and whether it is the same or refused."""
    plain = case.plain
    is_mask = plain.dtype == bool

    def dressed(values: Any) -> Any:
        if not case.only_labelled:
            return values
        return xr.DataArray(values, case.labels, tuple(case.labels))

    frozen = plain.copy()
    frozen.setflags(write=False)
    numbers = "refused" if is_mask else "same"
    hidden = np.zeros(plain.shape, dtype=bool)
    hidden.flat[0] = True
    broken = plain.astype(float)
    broken.flat[0] = np.nan
    found = {
        "plain": (dressed(plain), "same"),
        "float32": (dressed(plain.astype("float32")), numbers),
        "integers": (dressed(plain.astype("int16")), numbers),
        "big-endian": (dressed(plain.astype(plain.dtype.newbyteorder(">"))), "same"),
        "read-only": (dressed(frozen), "same"),
        "strided": (dressed(np.repeat(plain, 2, axis=0)[::2]), "same"),
        "fortran": (dressed(np.asfortranarray(plain)), "same"),
        "dask": (dressed(dask.array.from_array(plain, chunks=2)), "same"),
        "unmasked": (dressed(np.ma.masked_array(plain, False)), "same"),
        "object": (dressed(plain.astype(object)), "either"),
        "masked": (dressed(np.ma.masked_array(plain, hidden)), "refused"),
        "complex": (dressed(plain + 1j), "refused"),
        "nan": (dressed(broken), "refused"),
        "text": (dressed(plain.astype(str)), "refused"),
        "timedelta": (dressed(plain.astype(int).astype("timedelta64[s]")), "either"),
        "quantity": (
            dressed(pint.Quantity(plain, case.unit or "")),
            "either" if is_mask else "same",
        ),
    }
    if case.unit and case.unit != "1":
        centi, power = case.unit.replace("m", "cm"), {"m": 1, "m^2": 2, "1/m^2": -2}[case.unit]
        found["other units"] = (dressed(pint.Quantity(plain * 100.0**power, centi)), "same")
        found["foreign units"] = (dressed(pint.Quantity(plain, "kg")), "refused")
        found["timedelta"] = (found["timedelta"][0], "refused")
    if not case.only_labelled:
        found["list"] = (plain.tolist(), "same")
    if case.labels:
        found |= labelled_variants(case)
    return {name: (value, case.differ.get(name, rule)) for name, (value, rule) in found.items()}


def labelled_variants(case: Case) -> dict[str, tuple[Any, str]]:
    plain, dims = case.plain, [*case.labels, "row"][: case.plain.ndim]
    array = xr.DataArray(plain, case.labels, dims)
    turned = array
    for dim in case.labels:
        turned = turned.isel({dim: slice(None, None, -1)})
    dim, labels = next(iter(case.labels.items()))
    strange = [*labels[:-1], "zz" if isinstance(labels[0], str) else 77.0]
    found = {
        "labelled": (array, "same"),
        "permuted": (turned, "same"),
        "transposed": (turned.transpose(*dims[::-1]), "same"),
        "lazy": (turned.chunk(), "same"),
        "foreign": (turned.assign_coords({dim: strange[::-1]}), "refused"),
    }
    if plain.ndim == 1 and not case.only_labelled:
        found["series"] = (turned.to_series(), "same")
    if plain.ndim == 2 and len(case.labels) == 2 and not case.only_labelled:
        found["frame"] = (turned.to_pandas(), "same")
    return found


ALL = [
    pytest.param(case, name, id=f"{owner}-{what}-{name}")
    for (owner, what), case in CASES.items()
    for name, (_, rule) in variants(case).items()
    if rule != "left out"
]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
@pytest.mark.filterwarnings("error::pint.UnitStrippedWarning")
@pytest.mark.parametrize(("case", "name"), ALL)
def test_arrays_in_every_form(case, name):
    value, rule = variants(case)[name]
    try:
        found = case.make(value)
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert PACKAGE in Path(last.filename).parents, f"{last.filename}:{last.lineno}: {error}"
        assert rule != "same", str(error)
        return
    assert rule != "refused", found
    tolerance = 1e-6 if name == "float32" else 1e-12 if "units" in name else 0.0
    np.testing.assert_allclose(
        dense(found), dense(case.make(variants(case)["plain"][0])), rtol=tolerance
    )


def dense(value: Any) -> np.ndarray:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value, dtype=float)


MANY = 100_000


@pytest.mark.parametrize("kind", ["number", "bare", "labelled", "permuted"])
def test_construction_takes_five_milliseconds_an_array(kind):
    """Data and their coordinate are two arrays; so are an sd with labels and its own."""
    coords = {"s": np.arange(float(MANY))}
    data = xr.DataArray(np.ones(MANY), coords, "s")
    sd, arrays = {
        "number": (1.0, 2), "bare": (np.ones(MANY), 3), "labelled": (data, 4),
        "permuted": (data[::-1], 4),
    }[kind]  # fmt: skip
    forward = bj.pytensor_map(lambda th: th * np.ones(MANY), "th")
    taken = []
    for _ in range(7):
        start = time.process_time()
        bj.Modality("m", data, forward, bj.GaussianNoise(sd=sd))
        taken.append(time.process_time() - start)
    assert min(taken) < 0.005 * arrays
