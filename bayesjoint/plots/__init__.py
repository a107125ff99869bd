"""Figures: one beside each report, and of posterior and data. They need the extra ``plots``."""

from bayesjoint.plots.alignment import plot_alignment
from bayesjoint.plots.balance import plot_balance
from bayesjoint.plots.chains import plot_diagnostics
from bayesjoint.plots.checks import plot_predictive_check
from bayesjoint.plots.compromise import plot_compromise
from bayesjoint.plots.coupling import plot_coupling_sweep
from bayesjoint.plots.coupling_calibration import plot_coupling_calibration
from bayesjoint.plots.cross_validation import plot_leave_out
from bayesjoint.plots.data_worth import plot_data_worth
from bayesjoint.plots.design_weight import plot_design_weight
from bayesjoint.plots.discrepancy import plot_discrepancy
from bayesjoint.plots.discrepancy_prediction import plot_predicted_discrepancy
from bayesjoint.plots.discrepancy_sweep import plot_discrepancy_sweep
from bayesjoint.plots.fit import plot_fit
from bayesjoint.plots.information import plot_information, plot_leakage, plot_spectrum
from bayesjoint.plots.leave_one_out import plot_leave_one_out
from bayesjoint.plots.membership import plot_membership
from bayesjoint.plots.misspecification import plot_discrepancy_cost
from bayesjoint.plots.modality_validation import plot_leave_modality_out
from bayesjoint.plots.parameters import plot_identifiability
from bayesjoint.plots.posterior import plot_posterior
from bayesjoint.plots.resolution import plot_point_spread, plot_resolution
from bayesjoint.plots.tension import plot_tension
from bayesjoint.plots.tension_null import plot_tension_null

__all__ = [
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
]
