"""Bayesian joint inversion: several data sets, one unknown, one honest posterior.

The names below are the whole public interface.  They are loaded on first use, so that
``import bayesjoint`` and the command line answer at once.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "arrays": ["real_and_imaginary"],
    "grids": ["Grid"],
    "priors": ["Prior"],
    "latents": ["GaussianField", "Parameter"],
    "forward": ["linear_map", "numpy_map", "pytensor_map"],
    "noise": ["CorrelatedNoise", "GaussianNoise", "PoissonNoise", "StudentTNoise"],
    "modalities": ["Modality"],
    "couplings": [
        "CorrelatedFields",
        "CrossGradient",
        "JointSparsity",
        "JointTotalVariation",
        "PropertyMixture",
        "PropertyRelation",
    ],
    "discrepancy": ["JointDiscrepancy"],
    "problem": ["JointProblem", "build_model"],
    "linearization": ["linearize"],
    "sampling": ["open_store", "sample"],
    "simulation": ["simulate"],
    "studies.balancing": ["balance"],
    "studies.coupling_weight": ["calibrate_coupling"],
    "studies.normalisation": ["tabulate_normaliser"],
    "studies.coupling_design": ["coupling_sweep", "design_weight"],
    "studies.cross_validation": ["leave_out"],
    "studies.modality_validation": ["leave_modality_out"],
    "studies.null_distribution": ["tension_null"],
    "studies.discrepancy_prediction": ["predict_discrepancy"],
    "studies.discrepancy_study": ["discrepancy_sweep"],
    "studies.misspecification": ["discrepancy_cost"],
    "reports": [
        "alignment",
        "compromise",
        "data_worth",
        "diagnose",
        "identifiability",
        "information",
        "leakage",
        "leave_one_out",
        "membership",
        "point_spread",
        "predictive_check",
        "resolution",
        "resolution_matrix",
        "summary",
        "tension",
    ],
    "plots": [
        "plot_alignment",
        "plot_balance",
        "plot_compromise",
        "plot_coupling_calibration",
        "plot_coupling_sweep",
        "plot_data_worth",
        "plot_design_weight",
        "plot_diagnostics",
        "plot_discrepancy",
        "plot_discrepancy_cost",
        "plot_discrepancy_sweep",
        "plot_fit",
        "plot_identifiability",
        "plot_information",
        "plot_leakage",
        "plot_leave_modality_out",
        "plot_leave_one_out",
        "plot_leave_out",
        "plot_membership",
        "plot_point_spread",
        "plot_posterior",
        "plot_predicted_discrepancy",
        "plot_predictive_check",
        "plot_resolution",
        "plot_spectrum",
        "plot_tension",
        "plot_tension_null",
    ],
    "page": ["report"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'bayesjoint' has no attribute {name!r}")
    value = getattr(import_module(f"bayesjoint.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
