"""Three neutron contrasts of one polymer film: specular reflectometry.

A polymer film on an oxidised silicon wafer is measured in water of three deuterations:

    silicon | oxide | film, partly solvent | solvent

The three curves share thickness, roughness, scattering length density (SLD) and hydration of the
film, and the oxide; each has its own solvent, scale and background.  Lengths are in Å, momentum
transfer q in 1/Å, SLD in 1e-6/Å².  Data are log10 R: reflectivity spans five decades, the
systematic errors of a reflectometer are relative, and the background keeps R above zero.

F. Abelès, J. Phys. Radium 11 (1950) 307.  L. Névot & P. Croce, Rev. Phys. Appl. 15 (1980) 761.
A. Nelson & S. Prescott, J. Appl. Cryst. 52 (2019) 193: refnx, with which the data come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

import bayesjoint as bj

SLD_UNIT = 1e-6  # 1/Å²
SILICON_SLD, OXIDE_SLD = 2.07, 3.47
LEAST_LOSS = 1e-30  # picks the decaying branch of the square root; the value of refnx
SD_OF_FWHM = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class Contrast:
    """One measurement: its name, its file, and the SLD of its solvent with the sd of that."""

    name: str
    file: str
    solvent_sld: float
    solvent_sd: float


# One percent of D2O more or less, from mixing and from the air, is 0.07 in SLD.
CONTRASTS = (
    Contrast("heavy_water", "e361r.txt", 6.36, 0.05),
    Contrast("matched_water", "e365r.txt", 3.47, 0.10),
    Contrast("light_water", "e366r.txt", -0.56, 0.10),
)


# --- physics: the reflectivity of a stack of layers ------------------------------------------


@dataclass(frozen=True)
class _Complex:
    """A complex number as two real tensors: PyTensor has no gradient through complex ones."""

    real: Any
    imag: Any = 0.0

    def __add__(self, other: "_Complex") -> "_Complex":
        return _Complex(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: "_Complex") -> "_Complex":
        return _Complex(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: "_Complex") -> "_Complex":
        real = self.real * other.real - self.imag * other.imag
        return _Complex(real, self.real * other.imag + self.imag * other.real)

    def __truediv__(self, other: "_Complex") -> "_Complex":
        size = other.norm()
        return self * _Complex(other.real / size, -other.imag / size)

    def __getitem__(self, rows: int | slice) -> "_Complex":
        return _Complex(self.real[rows], self.imag[rows])

    def norm(self) -> Any:
        """Return the squared modulus."""
        return self.real**2 + self.imag**2

    def exp(self) -> "_Complex":
        """Return the exponential."""
        size = pt.exp(self.real)
        return _Complex(size * pt.cos(self.imag), size * pt.sin(self.imag))


def wavevector(squared: Any, loss: Any) -> _Complex:
    """Return the root of ``squared - i loss`` that decays downwards; `loss` must be positive.

    `squared` changes sign at the critical edge.  Real and imaginary part both come from the larger
    of the two, so that values are exact and gradients finite on either side.
    """
    larger = pt.sqrt((pt.sqrt(squared**2 + loss**2) + pt.abs(squared)) / 2)
    smaller = loss / (2 * larger)
    above = squared > 0
    return _Complex(pt.switch(above, larger, smaller), -pt.switch(above, smaller, larger))


def reflectivity(
    q: np.ndarray, sld: Sequence, thickness: Sequence, roughness: Sequence, loss: Sequence = ()
) -> pt.TensorVariable:
    """Return the specular reflectivity at each q.

    Parameters
    ----------
    q : array, shape (n,)
        Momentum transfer, 1/Å.
    sld, loss : sequence
        Real and (optional) imaginary SLD of fronting, layers and backing, 1e-6/Å²; the fronting
        must not absorb.
    thickness, roughness : sequence
        Thickness of each layer and root-mean-square roughness of each interface, Å.

    Raises
    ------
    ValueError
        If the numbers of media, layers and interfaces do not fit together.

    Notes
    -----
    Abelès' characteristic matrices with the roughness factor of Névot and Croce:

    1. ``k_j = sqrt(q²/4 - 4π (ρ_j - ρ_0))``, the wavevector in medium j
    2. ``r_j = (k_j - k_j+1) / (k_j + k_j+1) exp(-2 k_j k_j+1 σ_j²)``, interface j over j+1
    3. ``C_j = [[e^iβ, r_j e^iβ], [r_j e^-iβ, e^-iβ]]``, ``β = k_j d_j``
    4. ``M = C_0 C_1 ... C_n`` and ``R = |M_10 / M_00|²``

    Only the ratio in the first column of M is needed.  That column is built from the backing
    upwards with each C_j over e^iβ, so that evanescent waves in thick layers cannot overflow.

    Examples
    --------
    >>> bare_wafer = reflectivity(np.array([0.005, 0.1]), [2.07, 6.36], [], [3.0])
    >>> bare_wafer.eval().round(6)
    array([1.0e+00, 2.7e-05])
    """
    if len(thickness) != len(sld) - 2 or len(roughness) != len(sld) - 1:
        raise ValueError(
            f"reflectivity: {len(sld)} media need {len(sld) - 2} thicknesses and {len(sld) - 1} "
            f"roughnesses, got {len(thickness)} and {len(roughness)}"
        )
    density, losses, sigma = _column(sld), _column(loss or [0.0] * len(sld)), _column(roughness)
    unit = 4 * np.pi * SLD_UNIT
    # Numbers are those of the notes; k is (medium, q), fresnel (interface, q).
    k = wavevector(q**2 / 4 - unit * (density - density[0]), unit * (losses + LEAST_LOSS))  # 1
    damping = (k[:-1] * k[1:] * _Complex(-2 * sigma**2)).exp()
    fresnel = (k[:-1] - k[1:]) / (k[:-1] + k[1:]) * damping  # 2
    down, up = _Complex(1.0), fresnel[-1]  # M_00 and M_10 below the last layer
    for j in reversed(range(len(thickness))):
        up = up * (k[j + 1] * _Complex(0.0, -2 * thickness[j])).exp()
        down, up = down + fresnel[j] * up, fresnel[j] * down + up  # 3
    return up.norm() / down.norm()  # 4


def _column(values: Sequence) -> pt.TensorVariable:
    return pt.stack([pt.as_tensor(value) for value in values])[:, None]  # broadcasts along q


@dataclass(frozen=True, eq=False)
class FilmCurve:
    """What reaches an ideal instrument at momentum transfers `q` from the film in one solvent."""

    q: np.ndarray

    def __call__(
        self, thickness, roughness, sld, hydration, oxide, wafer, solvent, scale, background
    ) -> pt.TensorVariable:
        """Return ``scale R(q) + background``; `wafer` is the roughness of both its interfaces."""
        wet_film = (1 - hydration) * sld + hydration * solvent
        media = [SILICON_SLD, OXIDE_SLD, wet_film, solvent]
        curve = reflectivity(self.q, media, [oxide, thickness], [wafer, wafer, roughness])
        return scale * curve + 1e-6 * background


# --- instrument: the resolution is the observation operator ----------------------------------


def resolution_operator(
    q: np.ndarray, resolution: float, edge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in q, 1/Å, and the matrix (datum, node) that smears a curve given there.

    Each datum sees the mean of the curve over a Gaussian in q, of full width at half maximum
    `resolution` times q.  Rows sum to one, so that scale and background pass unchanged.  The data
    share the nodes.  They are even in log q, 0.8 sd of the resolution apart, which is all that the
    trapezoidal rule needs for a Gaussian times fringes wider than it, and forty times denser around
    the critical `edge` (1/Å), where the curve has a kink.  The rule errs by less than 1e-4 of the
    curve; stated errors are above 6e-3.  As an unknown SLD moves the edge over the nodes, each
    leaves a cusp in the posterior: below 0.1 nats, the less the denser they are.
    """
    sd = resolution * SD_OF_FWHM
    start, stop = np.log([q.min(), q.max()]) + np.array([-6, 6]) * sd
    log_q = np.linspace(start, stop, 100_000)
    near_edge = np.exp(-(((log_q - np.log(edge)) / (2 * sd)) ** 2))
    density = (1 + 40 * near_edge) / (0.8 * sd)
    count = np.cumsum(density) * (log_q[1] - log_q[0])
    log_nodes = np.interp(np.arange(1, count[-1]), count, log_q)
    nodes = np.exp(log_nodes)
    spacing = nodes / np.interp(log_nodes, log_q, density)
    kernel = spacing * np.exp(-0.5 * ((nodes - q[:, None]) / (sd * q[:, None])) ** 2)
    return nodes, kernel / kernel.sum(axis=1, keepdims=True)


def load_contrasts(folder: Path | None = None) -> dict[str, xr.Dataset]:
    """Return `reflectivity` and its `sd` for each contrast, along its own ``<contrast>_q``, 1/Å.

    They are read from the three files in `folder`, by default those that come with refnx.

    Raises
    ------
    ValueError
        If there is no folder and no refnx, or a file is missing.
    """
    if folder is None:
        refnx = find_spec("refnx")  # does not import it
        if refnx is None or refnx.origin is None:
            raise ValueError(
                "reflectometry: the data come with refnx, which is not installed; "
                'pip install "bayesjoint[cases]"'
            )
        folder = Path(refnx.origin).parent / "analysis" / "tests"
    missing = [c.file for c in CONTRASTS if not Path(folder, c.file).is_file()]
    if missing:
        raise ValueError(
            f"reflectometry: {folder} has no {', '.join(missing)}; give the folder of the three "
            "curves, or none to use those that come with refnx"
        )
    return {c.name: _read_curve(Path(folder, c.file), f"{c.name}_q") for c in CONTRASTS}


def _read_curve(file: Path, dim: str) -> xr.Dataset:
    q, curve, sd = np.loadtxt(file, unpack=True)
    return xr.Dataset(
        {"reflectivity": (dim, curve, {"units": "1"}), "sd": (dim, sd, {"units": "1"})},
        coords={dim: (dim, q, {"units": "1/Å"}), "log_q": (dim, np.log(q))},
    ).sortby(dim)


# --- problem ---------------------------------------------------------------------------------


def film_and_wafer() -> list[bj.Parameter]:
    """Return what the contrasts share: a spun film of hydrocarbon on a polished wafer."""
    # the SLD of hydrocarbon polymers lies between -0.3 (polyethylene) and 1.4 (polystyrene)
    hydrocarbon = bj.Prior(pm.Normal, mu=0.5, sigma=0.6)
    return [
        bj.Parameter("film_thickness", _around(200.0, 0.1), units="Å"),
        bj.Parameter("film_roughness", _around(5.0, 0.5), units="Å"),
        bj.Parameter("film_sld", hydrocarbon, units="1e-6/Å²"),
        bj.Parameter("hydration", bj.Prior(pm.HalfNormal, sigma=0.1)),
        bj.Parameter("oxide_thickness", _around(10.0, 0.4), units="Å"),
        bj.Parameter("wafer_roughness", _around(3.5, 0.3), units="Å"),
    ]


def solvent_and_beam(contrast: Contrast) -> list[bj.Parameter]:
    """Return what belongs to one contrast: solvent SLD, scale and background."""
    solvent = bj.Prior(pm.Normal, mu=contrast.solvent_sld, sigma=contrast.solvent_sd)
    return [
        bj.Parameter(f"{contrast.name}_sld", solvent, units="1e-6/Å²"),
        bj.Parameter(f"{contrast.name}_normalisation", _around(1.0, 0.05)),
        bj.Parameter(f"{contrast.name}_background", _around(20.0, 0.5), units="1e-6"),
    ]


def _around(median: float, relative_sd: float) -> bj.Prior:
    return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=relative_sd)


def modality(
    contrast: Contrast,
    curve: xr.Dataset,
    latents: list[bj.Parameter],
    resolution: float,
    scale: Any,
) -> bj.Modality:
    """Return log10 R of one contrast, seen through the resolution of the instrument."""
    q = curve[f"{contrast.name}_q"].values
    # light water has no critical edge: there the denser nodes are idle
    edge = np.sqrt(16 * np.pi * abs(contrast.solvent_sld - SILICON_SLD) * SLD_UNIT)
    nodes, smearing = resolution_operator(q, resolution, edge)
    units = {latent.name: latent.units for latent in latents}
    data = np.log10(curve.reflectivity).assign_attrs(long_name="log10 reflectivity")
    relative_sd = (curve.sd / curve.reflectivity).values
    return bj.Modality(
        contrast.name,
        data,
        bj.pytensor_map(FilmCurve(nodes), list(units), name=contrast.name, input_units=units),
        bj.GaussianNoise(sd=relative_sd / np.log(10), scale=scale),
        observe=[smearing, pt.log10],
    )


def smooth_discrepancy() -> bj.JointDiscrepancy:
    """Return a relative error of each curve, of some percent, smooth over some tenths of log q.

    It stands for what one instrument and one idealised film do to every curve (a background that
    is not flat, a profile that is not made of slabs), hence the correlation between them.
    """
    ten_percent = bj.Prior(pm.HalfNormal, sigma=0.1 / np.log(10))
    return bj.JointDiscrepancy(
        sd={contrast.name: ten_percent for contrast in CONTRASTS},
        correlation=bj.Prior(pm.Uniform, lower=-0.4, upper=0.95),
        on="log_q",
        length_scale=_around(0.2, 0.5),
        grid=bj.Grid(log_q=np.linspace(-5.5, -1.0, 90)),
        rank=36,  # waves as short as 0.25 in log q
    )


def problem(
    data: Path | None = None, *, errors: str = "scaled", resolution: float = 0.05
) -> bj.JointProblem:
    """Return the joint problem of the three contrasts.

    Parameters
    ----------
    data : Path, optional
        Folder of the three curves; by default those that come with refnx.
    errors : {"scaled", "discrepancy", "stated"}
        The stated errors are too small.  "scaled" multiplies those of each contrast by an unknown
        ``<contrast>_scale``, "discrepancy" adds a smooth error of the model, "stated" leaves them.
    resolution : float
        Full width at half maximum over q.  The files give none; refnx takes 5 %.

    Raises
    ------
    ValueError
        If `errors` is none of these, or the data are not found.
    """
    if errors not in ("scaled", "discrepancy", "stated"):
        raise ValueError(
            f"reflectometry: errors={errors!r} is unknown; use scaled, discrepancy or stated"
        )
    scale = _around(1.5, 0.5) if errors == "scaled" else 1.0
    curves, shared = load_contrasts(data), film_and_wafer()
    own = {contrast.name: solvent_and_beam(contrast) for contrast in CONTRASTS}
    return bj.JointProblem(
        latents=sum(own.values(), start=shared),
        modalities=[
            modality(c, curves[c.name], shared + own[c.name], float(resolution), scale)
            for c in CONTRASTS
        ],
        discrepancy=smooth_discrepancy() if errors == "discrepancy" else None,
    )
