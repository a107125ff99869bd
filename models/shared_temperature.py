"""Two thermal channels of one satellite radiometer, calibrated by one black body.

A radiometer counts the radiance of the sea in two channels.  Counts become radiances by looking at
cold space, whose radiance is as good as none, and at a black body on board, whose temperature a
thermometer reports.  For a linear detector

    radiance = counts / counts of the black body x B(reported temperature)

with Planck's function B.  Where the report is wrong by ``e``, all radiances of both channels are
wrong by the factor ``B(T + e) / B(T)``: one cause, two errors.  As brightness temperatures, at a
scene of temperature ``t``, they are to first order

    loading x e,    loading = (B'(T) / B(T)) (B(t) / B'(t))

near 1, slightly different in the two channels, and computed here, not assumed.  The sea has a
temperature, and water vapour above absorbs, more in channel 5 than in channel 4:

    brightness temperature = surface - absorption x vapour

so that their difference tells the vapour (the split window).  A number of scenes, evenly around
the orbit, are each looked at in a number of scans; temperature and vapour of a scene are unknown.

Errors may be modelled in three ways:

``shared``
    As they are: one error of the black body, a process along the orbit, with a loading for each
    channel, and noise of the detectors.
``independent``
    As large as they are, but independent between channels and scans.
``none``
    Noise of the detectors alone: the calibration is right.

A second thermometer on the black body sees the common error alone, never (``no``), at all scans
(``always``), or at those of the first half of the scenes (``partly``).  Its readings have errors of
their own, and one in common, its bias.

Where the numbers come from.  Wavenumbers: central ones of channels 4 and 5 of an AVHRR.  Radiation
constants: CODATA 1998, as in appendix P of the NOAA KLM User's Guide.  Black body: 0.35 K of the
absolute accuracy of the AVHRR is traceable to the calibration of the laboratory black body (M. P.
Weinreb, G. Hamilton, S. Brown and R. J. Koczor 1990, J. Geophys. Res. 95, 7381, doi
10.1029/JC095iC05p07381).  Detectors: 0.05 K (A. Dudhia 1989, Int. J. Remote Sens. 10, 637).

All else is chosen for illustration: temperatures, vapour, absorption (one over which the split
window weighs the difference of the channels with 2.5, where operational formulas have 2.1 to 2.6),
the second thermometer, and above all how the error changes along the orbit.  The published figure
is a bias; here four fifths of the variance are one, and the rest comes and goes with every orbit.
"""

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

import bayesjoint as bj

WAVENUMBERS = {"channel_4": 927.92, "channel_5": 831.29}  # 1/cm
C1, C2 = 1.1910427e-5, 1.4387752  # mW/(m2 sr cm-4), cm K
BLACK_BODY_SD, DETECTOR_SD = 0.35, 0.05  # K
THERMOMETER_SD, THERMOMETER_BIAS = 0.1, 0.05  # K: sd of a reading, and of what all share
BLACK_BODY = 288.0  # K
ABSORPTION = {"channel_4": 1.0, "channel_5": 1.4}  # K for each g/cm2 of water vapour
ORBIT, SCAN = 102.0, 1.0 / 360.0  # minutes: one orbit, one scan line
LENGTH_SCALE = 2.0  # of the periodic error of the black body, dimensionless
PRIORS = {
    "surface": {"mu": 290.0, "sigma": 3.0},  # K
    "vapour": {"mu": 2.5, "sigma": 1.0},  # g/cm2
}
ERRORS = ("shared", "independent", "none")
THERMOMETERS = ("no", "partly", "always")


# --- physics -----------------------------------------------------------------------------------


def radiance(temperature: Any, wavenumber: float) -> Any:
    """Return Planck's radiance, mW/(m2 sr cm-1), at temperatures in K and a wavenumber in 1/cm.

    Examples
    --------
    >>> round(float(radiance(288.0, 927.92)), 2)
    93.21
    """
    return C1 * wavenumber**3 / np.expm1(C2 * wavenumber / np.asarray(temperature))


def brightness_temperature(radiance: Any, wavenumber: float) -> Any:
    """Return the temperature in K at which a black body has a radiance: the inverse of Planck's.

    Examples
    --------
    >>> round(float(brightness_temperature(radiance(288.0, 927.92), 927.92)), 9)
    288.0
    """
    return C2 * wavenumber / np.log1p(C1 * wavenumber**3 / np.asarray(radiance))


def relative_sensitivity(temperature: Any, wavenumber: float) -> Any:
    """Return ``B'/B``, the relative change of the radiance for each kelvin."""
    ratio = C2 * wavenumber / np.asarray(temperature)
    return ratio / np.asarray(temperature) / -np.expm1(-ratio)


def loading(scene: Any, wavenumber: float, black_body: float = BLACK_BODY) -> Any:
    """Return the error of a brightness temperature for each kelvin of error of the black body.

    Parameters
    ----------
    scene : float or array
        Brightness temperature of the scene, K.
    wavenumber : float
        1/cm.
    black_body : float
        Its true temperature, K.

    Examples
    --------
    >>> round(float(loading(288.0, 927.92)), 9)  # a scene like the black body shares its error
    1.0
    """
    return relative_sensitivity(black_body, wavenumber) / relative_sensitivity(scene, wavenumber)


def calibrated(scene: Any, error: Any, wavenumber: float, black_body: float = BLACK_BODY) -> Any:
    """Return the brightness temperature that the calibration finds, K.

    Parameters
    ----------
    scene : float or array
        True brightness temperature, K.
    error : float or array
        Reported minus true temperature of the black body, K.
    wavenumber : float
        1/cm.
    black_body : float
        Its true temperature, K.
    """
    counts = radiance(scene, wavenumber) / radiance(black_body, wavenumber)
    return brightness_temperature(counts * radiance(black_body + error, wavenumber), wavenumber)


def brightness(surface: Any, vapour: Any, channel: str) -> Any:
    """Return the true brightness temperature of a scene in a channel, K."""
    return surface - ABSORPTION[channel] * vapour


def loadings() -> dict[str, float]:
    """Return the loading of each channel at the scene that is expected a priori.

    They change by 2 % for each sd of the prior of the scenes, which the linear model leaves out.
    """
    expected = {name: prior["mu"] for name, prior in PRIORS.items()}
    return {
        channel: float(loading(brightness(**expected, channel=channel), wavenumber))
        for channel, wavenumber in WAVENUMBERS.items()
    }


def correlation(times: np.ndarray) -> np.ndarray:
    """Return the correlation of the error of the black body between times in minutes."""
    times = np.asarray(times, dtype=float)
    phase = np.pi * (times[:, None] - times) / ORBIT
    return np.exp(-2.0 * np.sin(phase) ** 2 / LENGTH_SCALE**2)


# --- measurements --------------------------------------------------------------------------------


def schedule(scenes: int, scans: int) -> xr.Dataset:
    """Return when and at which scene the scans look: coordinates ``time`` and ``scene`` (scan).

    Raises
    ------
    ValueError
        If there is no scene or no scan.
    """
    if scenes < 1 or scans < 1:
        raise ValueError("shared_temperature: one scene and one scan are the least")
    scene = np.repeat(np.arange(scenes), scans)
    time = scene * ORBIT / scenes + np.tile(np.arange(scans), scenes) * SCAN
    return xr.Dataset(coords={"time": ("scan", time), "scene": ("scan", scene)})


def simulate(
    scenes: int = 8,
    scans: int = 10,
    seed: Any = 1,
    thermometer_sd: float = THERMOMETER_SD,
    thermometer_bias: float = THERMOMETER_BIAS,
) -> xr.Dataset:
    """Return measurements of a truth drawn from the priors, by the full calibration.

    Parameters
    ----------
    scenes : int
        Evenly around one orbit.
    scans : int
        Of each scene.
    seed : int or sequence of int
        Of truth and errors.
    thermometer_sd, thermometer_bias : float
        Sd of the error of each reading of the second thermometer, and of the one they share, K.

    Returns
    -------
    Dataset
        ``channel_4``, ``channel_5`` (scan): brightness temperatures, K; ``thermometer`` (scan):
        the error of the black body as the second thermometer sees it, K; the truth, ``surface``,
        ``vapour`` (scene) and ``black_body_error`` (scan).

    Raises
    ------
    ValueError
        If there is no scene or no scan.
    """
    looks = schedule(scenes, scans)
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(p["mu"], p["sigma"], scenes) for name, p in PRIORS.items()}
    error = BLACK_BODY_SD * (_root(scenes, scans) @ rng.standard_normal(scenes * scans))
    at = {name: values[looks["scene"].values] for name, values in truth.items()}
    for channel, wavenumber in WAVENUMBERS.items():
        seen = calibrated(brightness(**at, channel=channel), error, wavenumber)
        looks[channel] = "scan", seen + rng.normal(0.0, DETECTOR_SD, error.size), {"units": "K"}
    own = rng.normal(rng.normal(0.0, thermometer_bias), thermometer_sd, error.size)
    looks["thermometer"] = "scan", error + own, {"units": "K"}
    looks["black_body_error"] = "scan", error, {"units": "K"}
    return looks.assign({name: ("at", values) for name, values in truth.items()})


@cache
def _root(scenes: int, scans: int) -> np.ndarray:
    """Return the symmetric square root of the correlation, which is singular to rounding.

    That is one matrix, whatever the signs of eigenvectors: one seed is one data set everywhere.
    """
    values, vectors = np.linalg.eigh(correlation(schedule(scenes, scans)["time"].values))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


# --- problem -------------------------------------------------------------------------------------


def problem(
    data: xr.Dataset | None = None,
    *,
    errors: str = "shared",
    thermometer: str = "no",
    thermometer_sd: float = THERMOMETER_SD,
    thermometer_bias: float = THERMOMETER_BIAS,
    scenes: int = 8,
    scans: int = 10,
    seed: int = 1,
) -> bj.JointProblem:
    """Return the joint problem of both channels, and of the second thermometer.

    Parameters
    ----------
    data : Dataset, optional
        Measurements as from `simulate`; by default they are simulated.
    errors : str
        One of `ERRORS`.
    thermometer : str
        One of `THERMOMETERS`.
    thermometer_sd, thermometer_bias, scenes, scans, seed
        As in `simulate`.

    Raises
    ------
    ValueError
        If a setting is unknown, the data are no such Dataset, or a thermometer would see an error
        that is not modelled.

    Examples
    --------
    >>> tree = bj.linearize(problem(scenes=2, scans=3, thermometer="always"))
    >>> tree["linearization"].modality.values.tolist()
    ['channel_4', 'channel_5', 'thermometer']
    """
    _check(data, errors, thermometer)
    own = {"thermometer_sd": thermometer_sd, "thermometer_bias": thermometer_bias}
    measured = simulate(scenes, scans, seed, **own) if data is None else data
    modalities = [
        bj.Modality(name, measured[name], _seen(measured, name), _noise(name, errors))
        for name in WAVENUMBERS
    ]
    loads, causes = loadings(), []
    if thermometer != "no":
        readings = _readings(measured, thermometer)
        noise = bj.GaussianNoise(sd=thermometer_sd)
        modalities.append(bj.Modality("thermometer", readings, None, noise))
        loads["thermometer"] = 1.0
        if thermometer_bias > 0.0:
            causes.append(_bias(readings.size, thermometer_bias))
    if errors == "shared":
        causes.append(black_body(loadings=loads, sd=BLACK_BODY_SD))
    return bj.JointProblem(latents=_latents(measured), modalities=modalities, discrepancy=causes)


def black_body(**settings: Any) -> bj.JointDiscrepancy:
    """Return errors that change along the orbit as that of the black body does."""
    return bj.JointDiscrepancy(
        on="time", kernel="periodic", period=ORBIT, length_scale=LENGTH_SCALE,
        name="black_body", **settings,
    )  # fmt: skip


def _readings(measured: xr.Dataset, when: str) -> xr.DataArray:
    """Return the readings of the second thermometer, at all scans or over half of the scenes."""
    scene, readings = measured["scene"].values, measured["thermometer"].rename(scan="reading")
    return readings if when == "always" else readings[scene < (scene.max() + 1) / 2]


def _bias(count: int, sd: float) -> bj.JointDiscrepancy:
    """Return the error that all readings of the second thermometer share."""
    common = np.full((count, count), sd**2)
    return bj.JointDiscrepancy(
        covariance={("thermometer", "thermometer"): common}, name="thermometer_bias"
    )


def _check(data: Any, errors: str, thermometer: str) -> None:
    if data is not None and not (isinstance(data, xr.Dataset) and set(WAVENUMBERS) <= set(data)):
        raise ValueError("shared_temperature: the data must be a Dataset as from simulate")
    for name, value, allowed in (
        ("errors", errors, ERRORS),
        ("thermometer", thermometer, THERMOMETERS),
    ):
        if value not in allowed:
            raise ValueError(f"shared_temperature: {name}={value!r} is unknown; use {allowed}")
    if thermometer != "no" and errors != "shared":
        raise ValueError(
            f"shared_temperature: with errors={errors!r} there is no common error that a "
            "thermometer could see; use errors='shared'"
        )


def _latents(measured: xr.Dataset) -> list[Any]:
    units, scenes = {"surface": "K", "vapour": "g/cm2"}, np.unique(measured["scene"])
    return [
        bj.Parameter(name, bj.Prior(pm.Normal, **prior), units=units[name], coords={"at": scenes})
        for name, prior in PRIORS.items()
    ]


def _seen(measured: xr.Dataset, channel: str) -> Any:
    """Return the map from temperature and vapour of all scenes to the scans of a channel."""
    scenes = np.unique(measured["scene"])
    which = (measured["scene"].values[:, None] == scenes).astype(float)  # (scan, scene)
    matrices = {"surface": which, "vapour": -ABSORPTION[channel] * which}
    return bj.linear_map(matrices, name=channel)


def _noise(channel: str, errors: str) -> bj.GaussianNoise:
    common = BLACK_BODY_SD * loadings()[channel] if errors == "independent" else 0.0
    return bj.GaussianNoise(sd=float(np.hypot(common, DETECTOR_SD)))
