"""How a discrepancy enters a model: the factor of its covariance, or its modes at shared places."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytensor.tensor as pt

from bayesjoint._errors import processes as _processes
from bayesjoint._errors.processes import Process
from bayesjoint._graph.build import ModelBuild
from bayesjoint._kernels.modes import Modes, modes_of
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy

MARGINAL_RANK = 600  # above this "auto" samples the discrepancy


@dataclass(frozen=True, eq=False)
class Factor:
    """``delta_k = bases[k] @ (scale * w)`` of independent standard normal ``w``."""

    name: str
    bases: dict[str, Any]  # modality -> array or tensor, shape (data, rank)
    scale: Any  # tensor, shape (rank,)
    rank: int
    marginal: bool
    words: str  # which form, and why
    left_out: float = 0.0  # share of the variance in modes that are left out

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities it acts on."""
        return tuple(self.bases)


@dataclass(frozen=True, eq=False)
class ModalFactor:
    """The covariance ``mixing kron U diag(variances) U^T``: the same places in all modalities."""

    name: str
    modalities: tuple[str, ...]
    modes: Modes
    mixing: Any  # tensor, shape (modality, modality)
    words: str
    marginal: ClassVar[bool] = True
    rank: ClassVar[int] = 0  # of what enters through a basis


def factor_of(
    given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any], alone: bool
) -> Factor | ModalFactor:
    """Return the form in which a discrepancy enters, adding its unknown settings to the model.

    Parameters
    ----------
    given : JointDiscrepancy
    build : ModelBuild
        With the noise of the modalities.
    modalities : mapping
        Those it acts on.
    alone : bool
        Whether no other discrepancy acts on them.
    """
    modes = _shared_modes(given, build, modalities) if alone else None
    if modes is not None:
        mixing = _mixing_covariance(given, build, modalities)
        return ModalFactor(given.name, tuple(modalities), modes, mixing, _modal_words(modes))
    make = _of_covariance if given.covariance is not None else _of_process
    bases, scale = (make if given.of is None else _model_space)(given, build, modalities)
    rank = scale.type.shape[0]
    can = _can_integrate(modalities)
    marginal = given.form == "marginal" or (given.form == "auto" and can and rank <= MARGINAL_RANK)
    words = _words(given, marginal, can, rank)
    left_out = 0.0
    if given.rank is not None and given.grid is None:
        left_out = Process.of(given).share_left_out(given.points(modalities))
    return Factor(given.name, bases, scale, rank, marginal, words, left_out)


# ---- forms --------------------------------------------------------------------------------------


def _shared_modes(
    given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]
) -> Modes | None:
    """Return the modes in which the discrepancy is integrated out, None where they do not apply."""
    constant = all(np.ptp(build.noise[name].stated) == 0.0 for name in modalities)
    independent = all(modality.noise.gaussian for modality in modalities.values())
    wanted = given.form in ("auto", "marginal") and independent and _can_integrate(modalities)
    if not wanted or given.grid is not None or not (constant or given.on is None):
        return None
    return modes_at_shared_places(given, modalities)


def modes_at_shared_places(
    given: "JointDiscrepancy", modalities: Mapping[str, Any]
) -> Modes | None:
    """Return the modes of the unit process at the places that all modalities have, else None."""
    if given.of is not None or given.covariance is not None or given.orders:
        return None
    first = next(iter(modalities.values())).data
    if given.on is None:
        places = [modality.places for modality in modalities.values()]
        shared = all(np.array_equal(places[0], others) for others in places)
        return modes_of([first.size]) if shared else None
    process = Process.of(given)
    if not process.is_known:
        return None
    points = given.points({"first": next(iter(modalities.values()))})
    for modality in modalities.values():
        others = given.points({"other": modality})
        if others.shape != points.shape or not np.array_equal(others, points):
            return None
    return process.modes(points, first.shape if _is_lattice(process, first) else None)


def _is_lattice(process: Process, data: Any) -> bool:
    """Return whether each coordinate follows one axis of the data, in order."""
    dims = [data[axis].dims for axis in process.axes]
    return len(process.terms) > 1 and dims == [(dim,) for dim in data.dims]


def _model_space(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    points = given.points(modalities)
    basis, scale = Process.of(given).basis(build, points)
    sd = build.unknown(f"{given.name}_sd", given.sd, of_errors=True)
    first = next(iter(modalities.values()))
    components = (first.operator.columns or first.data.size) // points.shape[0]
    full = np.kron(basis, np.eye(components))  # (point x component, mode x component)
    bases = {
        name: m.from_response.of_differences(m.operator.matrix_times(full))
        for name, m in modalities.items()
    }
    return bases, sd * pt.repeat(scale, components)


def _of_process(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    names = list(modalities)
    rows, scale = _rows(given, build, modalities)
    if given.loadings is not None:
        sd = build.unknown(f"{given.name}_sd", given.sd, of_errors=True)
        return {n: given.loadings[n] * rows[n] for n in names}, sd * scale
    mixing = _mixing(given, build, modalities)
    bases = {n: _processes.kron_row(mixing[i], rows[n]) for i, n in enumerate(names)}
    causes = pt.as_tensor(mixing).type.shape[1]
    rank = causes * scale.type.shape[0]
    return bases, pt.specify_shape(pt.tile(scale, causes), (rank,))


def _of_covariance(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    sizes = {name: modality.data.size for name, modality in modalities.items()}
    factor = _processes.semidefinite_factor(given.stacked_covariance(sizes))
    parts = np.split(factor, np.cumsum(list(sizes.values()))[:-1])
    sd = build.unknown(f"{given.name}_sd", 1.0 if given.sd is None else given.sd, of_errors=True)
    return dict(zip(sizes, parts, strict=True)), sd * pt.ones(factor.shape[1])


def _rows(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    """Return the basis of the unit process at the data of each modality, and its scale."""
    if given.on is None:
        elements = {
            name: given.orders[name][modality.places] if name in given.orders else modality.places
            for name, modality in modalities.items()
        }
        known = np.unique(np.concatenate(list(elements.values())))
        units = np.eye(known.size)
        rows = {name: units[np.searchsorted(known, own)] for name, own in elements.items()}
        return rows, pt.ones(known.size)
    sizes = [modality.data.size for modality in modalities.values()]
    process, scale = Process.of(given).basis(build, given.points(modalities))
    starts = np.cumsum([0, *sizes])
    rows = {n: process[starts[i] : starts[i + 1]] for i, n in enumerate(modalities)}
    return rows, scale


# ---- between modalities -------------------------------------------------------------------------


def _mixing(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    """Return ``diag(sd) A`` with ``A A^T`` the correlation, shape (modality, cause)."""
    names = list(modalities)
    sds = _sds(given, build, modalities)
    if isinstance(given.correlation, Prior):
        lower = pt.linalg.cholesky(_correlation(given, build, names))
        return pt.stack(sds)[:, None] * pt.specify_shape(lower, (len(names),) * 2)
    factor = _processes.correlation_factor(given.correlation, len(names))
    if any(isinstance(given.sd[name], Prior) for name in names):
        return pt.stack(sds)[:, None] * factor
    return np.array([given.sd[name] for name in names], dtype=float)[:, None] * factor


def _mixing_covariance(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]):
    """Return the covariance between modalities, shape (modality, modality)."""
    names = list(modalities)
    if given.loadings is not None:
        sd = build.unknown(f"{given.name}_sd", given.sd, of_errors=True)
        loadings = np.array([given.loadings[name] for name in names])
        return sd**2 * np.outer(loadings, loadings)
    sds = pt.stack(_sds(given, build, modalities))
    return sds[:, None] * sds * _correlation(given, build, names)


def _sds(given: "JointDiscrepancy", build: ModelBuild, modalities: Mapping[str, Any]) -> list:
    return [
        build.unknown(
            f"{given.name}_sd_{name}",
            given.sd[name],
            of_errors=True,
            units=modality.data.attrs.get("units", ""),
        )
        for name, modality in modalities.items()
    ]


def _correlation(given: "JointDiscrepancy", build: ModelBuild, names: list[str]):
    if not isinstance(given.correlation, Prior):
        return _processes.correlation_matrix(given.correlation, len(names))
    name = f"{given.name}_correlation"
    return build.correlation(name, given.correlation, names, of_errors=True)


# ---- words --------------------------------------------------------------------------------------


def _can_integrate(modalities: Mapping[str, Any]) -> bool:
    return all(m.noise.is_normal and m.power == 1.0 for m in modalities.values())


def _modal_words(modes: Modes) -> str:
    count = int(np.prod(modes.shape))
    if modes.is_complete:
        return f"integrated out exactly, mode by mode of {count} shared places"
    share = modes.left_out.sum() / (modes.left_out.sum() + modes.variances.sum())
    return (
        f"integrated out approximately, by the {modes.size} leading of {count} modes at shared "
        f"places; {share:.2g} of the variance is left out"
    )


def _words(given: "JointDiscrepancy", marginal: bool, can: bool, rank: int) -> str:
    if given.grid is not None:
        kind = f"approximately, in {rank} modes of a grid"
    elif given.rank is not None:
        kind = f"approximately, in {rank} leading modes"
    else:
        kind = f"exactly, in {rank} modes"
    if marginal:
        return f"integrated out {kind}"
    if given.form == "latent":
        reason = "as asked"
    elif not can:
        reason = "since a noise is not Gaussian or tempered"
    else:
        reason = f"since that is cheaper above {MARGINAL_RANK}"
    return f"sampled {kind}, {reason}"


def build_matrix(build: ModelBuild, name: str, basis: Any):
    """Return a basis as a tensor; a constant one becomes data of the model when it is large."""
    return build.matrix(name, basis) if isinstance(basis, np.ndarray) else basis
