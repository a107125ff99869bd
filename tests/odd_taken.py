"""The odd values that arguments do take, with the reason: all others must be refused."""

WORDS = {
    "name", "names", "*names", "units", "input_units", "output_units", "latent", "latents",
    "first", "second", "given", "on", "path", "title",
}  # fmt: skip
ARRAYS = {"series of many levels", "array of twins", "variable", "sparse", "many dims"}
EMPTY = {"empty list", "generator", "empty array"}  # the generator yields nothing
LISTS = {"names", "texts", "categories"}

# By argument, of all callables that have it or of those named.
TAKEN = {
    # a function or class is checked once the problem calls it
    ("function",): {"function", "class"},
    ("Modality", "observe"): {"empty list", "function", "class", "many dims", "sparse"},
    # names in any list; a map without latents is told by its problem
    ("latents",): LISTS | EMPTY,
    ("given",): LISTS,
    ("PropertyMixture", "labels"): LISTS,
    ("JointDiscrepancy", "on"): {"names"},
    # nothing is said: no couplings, no coordinates, no scales, no point
    ("JointProblem", "modalities"): EMPTY,
    ("JointProblem", "couplings"): EMPTY,
    ("JointProblem", "discrepancy"): EMPTY,
    ("coords",): {"empty dict"},
    ("scales",): {"empty dict"},
    ("coefficients",): {"empty dict"},
    ("input_units",): {"empty dict", "mapping of text"},
    ("truth",): {"empty dict", "empty tree"},
    ("finite_differences",): {"empty dict", "empty tree"},
    # numbers with their labels; they are matched with the data or the grid when a problem is made
    ("sd",): ARRAYS | {"empty list", "empty array", "series with NA", "prior over several"},
    ("Prior", "mu"): ARRAYS | {"minus"},
    ("Prior", "sigma"): ARRAYS,
    ("Grid", "x"): {"array of twins", "variable"},
    ("data",): {"array of twins"},
    ("matrix",): {"sparse"},
    ("covariance",): {"sparse"},
    ("values",): ARRAYS
    | {"nan", "infinite", "minus", "complex", "0-d", "complex array", "empty list", "empty array"},
    # what it is for
    ("prior",): {"prior", "prior over several"},
    ("problem",): {"problem"},
    ("GaussianField", "mean"): {"minus", "prior"},
    ("Modality", "forward"): {"none"},
    ("CorrelatedFields", "correlation"): {"prior"},
    ("JointDiscrepancy", "correlation"): {"minus", "prior over several"},
    # of one field no correlation is asked
    ("PropertyMixture", "correlation"): {"minus", "0-d", "variable"},
    # more modes than there are data are all of them
    ("JointDiscrepancy", "rank"): {"whole beyond doubles"},
}


def allowed(name, argument, base, optional):
    """Return which odd values an argument may take, given one that is right."""
    found = TAKEN.get((argument,), set()) | TAKEN.get((name, argument), set())
    found |= {"none"} if optional else set()
    found |= {"0-d"} if isinstance(base, float) else set()
    return found | ({"text", "surrogate"} if argument in WORDS else set())
