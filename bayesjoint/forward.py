"""Forward maps: the physics of one modality, with its derivative.

Every map turns latents into predicted data.  Two modalities that are given the same map object
share one evaluation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytensor.sparse as ps
import pytensor.tensor as pt
import xarray as xr
from pytensor.gradient import pullback
from scipy import sparse

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph import derivatives as _derivatives
from bayesjoint._graph import differences as _differences
from bayesjoint._graph import outputs as _outputs
from bayesjoint._graph.black_box import BlackBox
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import UNOPTIMISED, compiled_function, in_turn
from bayesjoint._graph.jacobians import JacobianActions
from bayesjoint._graph.outputs import MapFault, Output
from bayesjoint._graph.simulators import Simulator
from bayesjoint._warnings import warn

NOISY = 1e-9  # of the output: a simulator that repeats itself less well is told


@dataclass(frozen=True, eq=False)
class ForwardMap(arrays.Shown):
    """What all forward maps share; made by `linear_map`, `pytensor_map` and `numpy_map`.

    Attributes
    ----------
    latents : tuple of str
        Names of the latents it reads, in order.
    name : str
        For messages and for the variables it adds to a model.
    input_units, output_units
        Units, where the map states them.
    coords : mapping of str to array
        Coordinates of the first axis of the output, for a discrepancy in model space.
    origin : ForwardMap, optional
        The map of which this is the same physics, on renamed latents or fitted to a problem.
    conversions : mapping of str to Conversion
        From the units of latents to those that the map reads, where they differ.
    """

    latents: tuple[str, ...]
    name: str
    input_units: Mapping[str, str]
    output_units: str | None
    coords: Mapping[str, np.ndarray]
    _: KW_ONLY
    origin: "ForwardMap | None" = None
    conversions: Mapping[str, _units.Conversion] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting in ("input_units", "coords", "conversions"):
            object.__setattr__(self, setting, arrays.keep(getattr(self, setting)))

    def output(self, build: ModelBuild):
        """Return the tensor of the map's output; computed once for each model."""
        if id(self) not in build.outputs:
            build.outputs[id(self)] = self.apply(build, *self.inputs(build.values))
        return build.outputs[id(self)]

    def inputs(self, values: Mapping[str, Any]) -> list:
        """Return the values of its latents in the units that it reads."""
        same = _units.IDENTITY
        return [self.conversions.get(name, same)(values[name]) for name in self.latents]

    def fitted(self, latents: Mapping[str, Any], rows: arrays.Axes | None) -> "ForwardMap":
        """Return the map as a problem needs it: reading its latents in the units they are in.

        Parameters
        ----------
        latents : mapping of str to latent
            Those of the problem, all that it reads among them.
        rows : Axes or None
            What its output is labelled by, the data or what the observation operator acts on.

        Raises
        ------
        ValueError
            When units cannot be converted, or labels do not match.
        """
        found = {
            name: _units.conversion(
                f"map {self.name!r}: expects {name!r} in {{1}}, the latent is in {{0}}",
                latents[name].units, self.input_units.get(name), "convert one of them",
            )
            for name in self.latents
        }  # fmt: skip
        conversions = {name: c for name, c in found.items() if not c.is_identity}
        if conversions == dict(self.conversions):
            return self
        return replace(self, conversions=conversions, origin=self.origin or self)

    def apply(self, build: ModelBuild, *values):
        """Return the tensor of the output for the tensors of the latents."""
        raise TypeError(f"{type(self).__name__} does not say how it is applied")

    def renamed(self, names: Mapping[str, str]) -> "ForwardMap":
        """Return the same physics reading latents of other names; it remembers its origin."""
        return replace(
            self,
            latents=tuple(names.get(name, name) for name in self.latents),
            input_units={names.get(name, name): u for name, u in self.input_units.items()},
            conversions={names.get(name, name): c for name, c in self.conversions.items()},
            origin=self.origin or self,
        )

    def evaluated(self, values: list[np.ndarray]) -> np.ndarray | None:
        """Return the flat output at values of the latents; None where there is nothing to ask.

        Whatever the user's function raises is raised.
        """
        return None

    def form_in(self, values: Mapping[str, Any]) -> Output | None:
        """Return shape and labels of the output, for arrays or tensors of all latents by name.

        None where the tensor tells it.
        """
        return None

    def check(self, draws: list[list[np.ndarray]], spreads: list[np.ndarray]) -> None:
        """Check the derivative at prior draws; each draw holds one array a latent.

        Parameters
        ----------
        draws : list of draws
            At which the map can be evaluated.
        spreads : list of ndarray
            Of the prior of each latent.
        """

    @property
    def is_user_derived(self) -> bool:
        """Whether a user wrote the derivative."""
        return False

    def recheck(self, values: list[np.ndarray], where: str) -> None:
        """Check a derivative that a user wrote once more, where the posterior lies."""


@dataclass(frozen=True, eq=False)
class SilentMap(ForwardMap):
    """Zero, whatever the latents: of an instrument that sees a discrepancy alone."""

    shape: tuple[int, ...]

    def apply(self, build: ModelBuild, *values):
        """Return zeros."""
        return pt.zeros(self.shape)


def silent_map(name: str, shape: tuple[int, ...]) -> SilentMap:
    """Return the map of a modality that predicts nothing."""
    return SilentMap((), name, {}, None, {}, shape)


@dataclass(frozen=True, eq=False)
class LinearMap(ForwardMap):
    """A sum of matrices times ravelled latents.

    Attributes
    ----------
    given : tuple of matrix
        As the user gave them, with their labels.
    matrices : tuple of matrix
        Rows and columns in the order in which the problem has data and cells; until it is fitted to
        one, those given.
    """

    given: tuple[Any, ...]
    matrices: tuple[Any, ...]

    def fitted(self, latents: Mapping[str, Any], rows: arrays.Axes | None) -> "ForwardMap":
        """Return the map with rows and columns in the order of their labels; see `ForwardMap`."""
        same = super().fitted(latents, rows)
        if not any(map(arrays.is_labelled, self.given)):
            return same
        if rows is None:  # one labels the others
            pairs = zip(self.latents, self.given, strict=True)
            name, matrix = next(pair for pair in pairs if arrays.is_labelled(pair[1]))
            what = f"the matrix for {name!r}"
            rows = arrays.rows_of(f"map {self.name!r}", what, matrix, latents[name].axes())
        matrices = tuple(
            _in_order(f"map {self.name!r}", name, matrix, rows, latents[name].axes())
            for name, matrix in zip(self.latents, self.given, strict=True)
        )
        _require_same_rows(matrices)
        return replace(
            self, matrices=matrices, conversions=same.conversions, origin=self.origin or self
        )

    @property
    def has_row_labels(self) -> bool:
        """Whether its output follows the labels of the data."""
        return any(map(arrays.is_labelled, self.given))

    def apply(self, build: ModelBuild, *values):
        """Return ``sum_i A_i m_i``."""
        terms = [
            _multiply(build, f"{self.name}_matrix_{latent}", matrix, value.ravel())
            for latent, matrix, value in zip(self.latents, self.matrices, values, strict=True)
        ]
        return sum(terms[1:], start=terms[0])

    def check(self, draws: list[list[np.ndarray]], spreads: list[np.ndarray]) -> None:
        """Check shapes and that no latent has a zero block."""
        for latent, matrix, value in zip(self.latents, self.matrices, draws[0], strict=True):
            if matrix.shape[1] != np.size(value):
                raise MapFault(
                    f"map {self.name!r}: the matrix for {latent!r} has {matrix.shape[1]} columns, "
                    f"the latent {np.size(value)} elements {np.shape(value)}; one column each, in "
                    "C order"
                )
            if abs(matrix).max() == 0:
                raise MapFault(
                    f"map {self.name!r}: the matrix for {latent!r} is zero, the data say nothing "
                    f"of it; leave {latent!r} out of the map. What sees the errors alone is "
                    "Modality(name, data, None, noise)"
                )


@dataclass(frozen=True, eq=False)
class PytensorMap(ForwardMap):
    """A function of tensors; its derivative is automatic."""

    function: Callable
    made: dict[tuple, Any] = field(default_factory=dict)  # compiled, for the check alone

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: what was compiled does not."""
        return {**self.__dict__, "made": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what travelled."""
        self.__dict__.update(state)

    def apply(self, build: ModelBuild, *values):
        """Return the function of the latents' tensors."""
        return self._tensor(*values)

    def _tensor(self, *values: Any) -> Any:
        return _outputs.tensor(f"map {self.name!r}", self.function, *values)

    def evaluated(self, values: list[np.ndarray]) -> np.ndarray:
        """Return the flat output at values of the latents."""
        return self._compiled(_shapes(values))[0](*values)

    def check(self, draws: list[list[np.ndarray]], spreads: list[np.ndarray]) -> None:
        """Compare the pull-back, summed over elements and data, with differences at each draw."""
        function, vjp = self._compiled(_shapes(draws[0]))
        tested = _derivatives.Derivative(
            self.name,
            self.latents,
            function=lambda values: function(*values),
            vjp=lambda values, weights: vjp(*values, weights),
        )
        _derivatives.check(tested, draws, spreads)

    def _compiled(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[Callable, Callable]:
        """Return the function and its pull-back, of latents in these shapes."""
        if shapes not in self.made:
            self.made[shapes] = self._made_for(shapes)
        return self.made[shapes]

    @in_turn()
    def _made_for(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[Callable, Callable]:
        inputs = [
            pt.tensor(name, shape=shape) for name, shape in zip(self.latents, shapes, strict=True)
        ]
        output = self._tensor(*inputs).ravel()
        cotangent = pt.vector("cotangent")
        pulled = pullback(
            output, inputs, cotangent, disconnected_inputs="ignore", return_disconnected="zero"
        )
        return (
            compiled_function(inputs, output, UNOPTIMISED),
            compiled_function([*inputs, cotangent], pulled, UNOPTIMISED),
        )


@dataclass(frozen=True, eq=False)
class NumpyMap(ForwardMap):
    """A black box with a Jacobian, or with its actions."""

    simulator: Simulator
    differences: _differences.CentralDifferences | None = None
    spreads: list[np.ndarray] = field(default_factory=list)  # of the prior, once it was checked

    def apply(self, build: ModelBuild, *values):
        """Return the output of the black box as a tensor with a derivative."""
        flat, form = BlackBox(self.simulator)(*values), self._form(values)
        return flat if form is None or len(form.shape) < 2 else flat.reshape(form.shape)

    def form_in(self, values: Mapping[str, Any]) -> Output | None:
        """Return shape and labels of the output, for arrays or tensors of all latents by name."""
        return self._form(self.inputs(values))

    def _form(self, values: Sequence[Any]) -> Output | None:
        return self.simulator.form_of(
            tuple(v.type.shape if hasattr(v, "type") else np.shape(v) for v in values)
        )

    def evaluated(self, values: list[np.ndarray]) -> np.ndarray:
        """Return the flat output at values of the latents; exceptions are raised."""
        return self.simulator.once(values)

    def check(self, draws: list[list[np.ndarray]], spreads: list[np.ndarray]) -> None:
        """Compare both actions with finite differences and with each other at each draw."""
        self.spreads[:] = spreads
        output = self.evaluated(draws[0])
        again = _differences.repeatability(self._anew, draws[0], output)
        if self.differences is None:
            self._tell_noise(again)
            _derivatives.check(self._derivative, draws, spreads)
            return
        self.differences.spreads[:] = spreads
        moved = np.zeros(len(self.latents), dtype=bool)
        for draw in draws:
            at = _differences.Directional(self._anew, draw, self.evaluated(draw))
            moved |= self.differences.check(at, draw, again)
            if moved.all():
                return
        raise _derivatives.zero_block(self.name, self.latents[int(np.argmin(moved))])

    @property
    def is_user_derived(self) -> bool:
        """Whether a user wrote the derivative."""
        return self.differences is None

    def recheck(self, values: list[np.ndarray], where: str) -> None:
        """Check a derivative that a user wrote at one more point."""
        if not self.is_user_derived or not self.spreads:
            return
        try:
            _derivatives.check(
                self._derivative, [values], self.spreads, _derivatives.RECHECKED, everywhere=False
            )
        except MapFault as error:
            raise ValueError(f"{error} ({where})") from error

    @property
    def _derivative(self) -> _derivatives.Derivative:
        return _derivatives.Derivative(
            self.name, self.latents, self._anew, self.simulator.vjp, self.simulator.jvp
        )

    def _anew(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return self.simulator.output(values).ravel()

    def _tell_noise(self, again: float) -> None:
        if again > NOISY:
            warn(
                f"map {self.name!r}: the simulator repeats itself only to {again:.1g} of its "
                "output; its derivative is checked as closely as that allows, and draws are only "
                "as exact as that is small beside the noise of the data"
            )


def _without_derivative(*arguments: Any) -> Any:
    raise TypeError("a simulator that is still being made has no derivative")


def _shapes(values: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(np.shape(value) for value in values)


def linear_map(
    matrix: Any,
    latent: str | None = None,
    *,
    name: str | None = None,
    input_units: str | Mapping[str, str] | None = None,
    output_units: str | None = None,
    coords: Mapping[str, Any] | None = None,
) -> ForwardMap:
    """Return the forward map ``A m`` of a matrix, or the sum of several.

    Parameters
    ----------
    matrix : array or sparse matrix, shape (data, cells), or mapping of latent to such
        Cells in C order.  A large dense matrix travels as data of the model, a sparse one stays
        sparse.  A DataArray or DataFrame goes by its labels where the data or the latent have
        them: rows as the data, columns as the latent, whose dims a DataArray may have
        (``station, depth, x``).  One with units says what one unit of the latent gives:
        state output_units too.
    latent : str
        Name of the latent, when one matrix is given.
    name, input_units, output_units, coords
        As in `pytensor_map`.

    Returns
    -------
    ForwardMap
        With output of shape (data,).

    Raises
    ------
    ValueError
        When a matrix is not two-dimensional or finite, or the numbers of rows differ.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> bj.linear_map(np.ones((4, 10)), "density").latents
    ('density',)
    """
    if isinstance(matrix, str):
        raise ValueError(f"linear_map: the matrix comes first, as in bj.linear_map(G, {matrix!r})")
    if latent is None and not isinstance(matrix, Mapping):
        raise ValueError('linear_map: name the latent, as in bj.linear_map(G, "density")')
    if latent is not None and not isinstance(latent, str):
        raise ValueError(
            f"linear_map: the name of the latent is a {type(latent).__name__}; write "
            'bj.linear_map(G, "density")'
        )
    given = matrix if isinstance(matrix, Mapping) else {latent: matrix}
    matrices = {str(key): _matrix(str(key), value) for key, value in given.items()}
    if not any(map(arrays.is_labelled, matrices.values())):
        _require_same_rows(matrices.values())
    names = tuple(matrices)
    _require_name_of_map(name)
    stated = _stated_units("linear_map", names, input_units)
    return LinearMap(
        names,
        name or f"linear_{'_'.join(names)}",
        stated | _units_of_columns(matrices, stated, output_units),
        _units.spelled(output_units),
        _coords(coords),
        tuple(matrices.values()),
        tuple(matrices.values()),
    )


def pytensor_map(
    function: Callable,
    latents: str | Sequence[str],
    *,
    name: str | None = None,
    input_units: str | Sequence[str] | Mapping[str, str] | None = None,
    output_units: str | None = None,
    coords: Mapping[str, Any] | None = None,
) -> ForwardMap:
    """Return the forward map of a function of PyTensor tensors.

    Parameters
    ----------
    function : callable
        ``function(*values) -> tensor``, each value in the shape of its latent.
    latents : str or sequence of str
        Names of the latents, in the order of the arguments.
    name : str, optional
        For messages; the function's name by default.
    input_units, output_units : optional
        Units the function expects and returns; compared with latents and data that state theirs.
    coords : mapping of str to array, shape (n,), optional
        Coordinates of the first axis of the output; a discrepancy in model space needs them.

    Returns
    -------
    ForwardMap

    Examples
    --------
    >>> import bayesjoint as bj
    >>> decay = bj.pytensor_map(lambda a, rate: a / rate, ["amplitude", "rate"], name="decay")
    >>> decay.latents
    ('amplitude', 'rate')
    """
    names, label = _names(function, latents, name)
    return PytensorMap(
        names,
        label,
        _stated_units(f"map {label!r}", names, input_units),
        _units.spelled(output_units),
        _coords(coords),
        function,
    )


def numpy_map(
    function: Callable,
    latents: str | Sequence[str],
    *,
    jacobian: Callable | None = None,
    jvp: Callable | None = None,
    vjp: Callable | None = None,
    finite_differences: bool | Mapping[str, float] = False,
    name: str | None = None,
    input_units: str | Sequence[str] | Mapping[str, str] | None = None,
    output_units: str | None = None,
    coords: Mapping[str, Any] | None = None,
) -> ForwardMap:
    """Return the forward map of a black box in NumPy, with a derivative that is checked.

    Parameters
    ----------
    function : callable
        ``function(*values) -> array``, each value in the shape of its latent.  The output is in the
        shape of the data, or flat in C order; a DataArray is brought into the order of the data by
        its labels.  Each point is evaluated once, however many modalities share the map.
    latents : str or sequence of str
        Names of the latents, in the order of the arguments.
    jacobian : callable, optional
        ``jacobian(*values)`` -> one matrix (data, latent size in C order) for each latent, a bare
        matrix for one latent.
    jvp, vjp : callable, optional
        Instead: ``jvp(values, tangents) -> array`` and ``vjp(values, cotangent) -> list`` of one
        array for each latent, in its shape.
    finite_differences : bool or mapping of latent to step
        Central differences instead of a derivative, on request only: they cost two evaluations for
        each element of each latent and lose half the digits.  True takes steps of a millionth of
        the prior's spread; a simulator that is only exact to 1e-4, say, needs longer ones:
        ``{"porosity": 0.01}``, in the units of the latent.  Latents that are not named keep the
        short step.
    name, input_units, output_units, coords
        As in `pytensor_map`.

    Returns
    -------
    ForwardMap

    Raises
    ------
    ValueError
        When no derivative is given.  A wrong one raises when the problem is made, on three prior
        draws: all columns, in blocks, against finite differences, push-forward against pull-back,
        and no latent with an all-zero block.  That takes up to 33 evaluations of the function at
        each draw where there are up to 16 latents, and two more for each further one.

    Warns
    -----
    UserWarning
        When the simulator fails at some prior draws, or does not repeat itself.

    Notes
    -----
    An exception at a point means what a NaN means: the point is impossible, and a step there is
    rejected.  `sample` tells the share of such points with the first traceback; only where all
    points fail, it stops.

    A column that is wrong by a tenth is found among thousands where the output is smooth; how the
    tolerance follows from the error of the differences is written in `_graph.derivatives`.  A
    derivative that is right at the prior draws and wrong elsewhere is looked for once more at the
    maximum a posteriori and at the end of the warm-up.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> square = bj.numpy_map(
    ...     lambda v: v**2, "speed", jacobian=lambda v: np.diag(2 * v), name="square"
    ... )
    >>> square.name
    'square'
    """
    names, label = _names(function, latents, name)
    simulator = Simulator(label, names, function, _without_derivative, _without_derivative)
    functions = {"jacobian": jacobian, "jvp": jvp, "vjp": vjp}
    _require_one_derivative(label, finite_differences, functions)
    differences = None
    if finite_differences is not False:
        steps = _differences.steps_given(label, names, finite_differences)
        differences = _differences.CentralDifferences(simulator.output, label, names, steps)
    jacobian = differences or jacobian
    if jacobian is not None:
        actions = JacobianActions(jacobian, label, names)
        jvp, vjp = actions.jvp, actions.vjp
    if jvp is None or vjp is None:
        raise ValueError(
            f"map {label!r}: a derivative is needed; give jacobian=, or jvp= and vjp=, or ask for "
            "finite_differences=True"
        )
    simulator.jvp, simulator.vjp = jvp, vjp
    return NumpyMap(
        names,
        label,
        _stated_units(f"map {label!r}", names, input_units),
        _units.spelled(output_units),
        _coords(coords),
        simulator,
        differences,
    )


def _require_one_derivative(
    label: str, differences: Any, given: Mapping[str, Callable | None]
) -> None:
    """Raise unless a derivative is given in one way, by functions."""
    stated = {name: function for name, function in given.items() if function is not None}
    for name, function in stated.items():
        if not callable(function):
            raise ValueError(
                f"map {label!r}: {name} is of type {type(function).__name__}; give a function"
            )
    ways = ["finite_differences"] if differences is not False else []
    ways += [name for name in stated if name == "jacobian"]
    ways += ["jvp and vjp"] if set(stated) - {"jacobian"} else []
    if len(ways) > 1:
        raise ValueError(
            f"map {label!r}: its derivative is given by {' and by '.join(ways)}; give one of them"
        )


def _names(function: Any, latents: Any, name: str | None) -> tuple[tuple[str, ...], str]:
    """Return the names of latents and of a map, or raise where the arguments are mixed up."""
    if not callable(function):
        raise ValueError(
            f"the map of {latents!r}: {type(function).__name__} given where a function is needed; "
            'the function comes first, as in bj.numpy_map(function, ["vs", "h"], jacobian=...)'
        )
    _require_name_of_map(name)
    label = name or str(getattr(function, "__name__", "map"))
    given = [latents] if isinstance(latents, str) else latents
    names = _validate.parts(f"map {label!r}", "latents", given)
    if strange := [x for x in names if not isinstance(x, str)]:
        raise ValueError(
            f'map {label!r}: {strange[0]!r} is no name of a latent; give names, as in ["vs", "h"]'
        )
    return names, label


def _require_name_of_map(name: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise ValueError(f"map: its name is of type {type(name).__name__}; give a text")


def _matrix(latent: str, matrix: Any) -> Any:
    """Return a matrix that nobody else can change; one with labels waits for its problem."""
    owner, what = "linear_map", f"the matrix for {latent!r}"
    if sparse.issparse(matrix):
        return arrays.keep(arrays.sparse_matrix(owner, what, matrix))
    given = arrays.read(owner, what, matrix)
    if given.values.ndim < 2 or (given.values.ndim > 2 and given.dims is None):
        raise ValueError(
            f"linear_map: the matrix for {latent!r} has shape {given.values.shape}; (data, cells) "
            "is needed"
        )
    if not np.all(np.isfinite(given.values)):
        raise ValueError(f"linear_map: the matrix for {latent!r} is not finite")
    if given.units and _units.stated(matrix) is None:
        raise ValueError(
            f"linear_map: the matrix for {latent!r} holds time spans; give numbers, as "
            'spans / np.timedelta64(1, "s")'
        )
    has_labels = given.units or given.dims or any(label is not None for label in given.labels)
    return arrays.keep(matrix if has_labels else given.values)


def _in_order(
    owner: str, latent: str, matrix: Any, rows: arrays.Axes | None, columns: arrays.Axes
) -> Any:
    """Return a matrix with rows and columns in the order of their labels."""
    if not arrays.is_labelled(matrix):
        return matrix
    return arrays.keep(arrays.matrix(owner, f"the matrix for {latent!r}", matrix, rows, columns))


def _require_same_rows(matrices: Iterable[Any]) -> None:
    rows = {matrix.shape[0] for matrix in matrices}
    if len(rows) != 1:
        raise ValueError(
            f"linear_map: the matrices have {sorted(rows)} rows; all must predict the same data"
        )


def _units_of_columns(
    matrices: Mapping[str, Any], stated: Mapping[str, str], output_units: str | None
) -> dict[str, str]:
    """Return the units in which matrices that state their own read their latents."""
    found = {}
    for latent, matrix in matrices.items():
        own = None if sparse.issparse(matrix) else _units.stated(matrix)
        if own is None:
            continue
        if output_units is None:
            raise ValueError(
                f"linear_map: the matrix for {latent!r} is in {own!r}; state output_units= too, so "
                "that those of the latent follow"
            )
        found[latent] = f"({output_units})/({own})"
        if latent in stated:
            _units.conversion(
                f"linear_map: the matrix for {latent!r} reads {{}}, input_units says {{}}",
                found[latent], stated[latent], "leave one of them out",
            )  # fmt: skip
    return found


def _multiply(build: ModelBuild, name: str, matrix: Any, vector):
    if sparse.issparse(matrix):
        constant = ps.as_sparse_variable(sparse.csr_matrix(matrix, copy=True))
        return ps.structured_dot(constant, vector[:, None])[:, 0]
    return build.matrix(name, matrix) @ vector


def _stated_units(owner: str, names: tuple[str, ...], units: Any) -> dict[str, str]:
    """Return the units of the latents that a map states, by name."""
    if units is None:
        return {}
    if isinstance(units, Mapping):
        _validate.require_mapping(owner, "input_units", units, '{"depth": "m"}')
    else:
        each = list(units) if isinstance(units, list | tuple) else [units]
        if len(each) != len(names):
            raise ValueError(
                f"{owner}: input_units has {len(each)} entries for the latents {names}; one each"
            )
        units = dict(zip(names, each, strict=True))
    return {name: text for name, u in units.items() if (text := _units.spelled(u))}


def _coords(coords: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the coordinates of a map's output, one dimension each; DataArrays where in units."""
    if coords is not None:
        _validate.require_mapping("map", "coords", coords, '{"time": times}')
    kept = {name: _coordinate(name, values) for name, values in (coords or {}).items()}
    if len({array.shape for array in kept.values()}) > 1:
        shapes = {name: array.shape for name, array in kept.items()}
        raise ValueError(f"coords {shapes}: each needs one value for each row of the output")
    return kept


def _coordinate(name: str, values: Any) -> Any:
    array = arrays.keep(arrays.bare_coordinate(f"coords: {name!r}", values)).ravel()
    if pd.isna(array).any() or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"coords: {name!r} is missing or not finite in places; give a place")
    units = _units.stated(values)
    return xr.DataArray(array, dims="row", attrs={"units": units}) if units else array
