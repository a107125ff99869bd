"""Reports: labelled datasets made from a DataTree, without the model."""

from bayesjoint.reports.alignment import alignment
from bayesjoint.reports.balance import balance
from bayesjoint.reports.consistency import compromise
from bayesjoint.reports.data_worth import data_worth
from bayesjoint.reports.diagnostics import diagnose
from bayesjoint.reports.identifiability import identifiability
from bayesjoint.reports.information import information
from bayesjoint.reports.leakage import leakage
from bayesjoint.reports.leave_one_out import leave_one_out
from bayesjoint.reports.predictive import predictive_check
from bayesjoint.reports.resolution import point_spread, resolution, resolution_matrix
from bayesjoint.reports.summary import summary
from bayesjoint.reports.tension import tension

__all__ = [
    "alignment",
    "balance",
    "compromise",
    "data_worth",
    "diagnose",
    "identifiability",
    "information",
    "leakage",
    "leave_one_out",
    "point_spread",
    "predictive_check",
    "resolution",
    "resolution_matrix",
    "summary",
    "tension",
]
