"""Couplings: how properties inform each other before any data are seen.

Structural ones are prior potentials (`cross_gradient`, `edges`), petrophysical and statistical ones
shape the prior of the fields themselves, so that it stays normalised.
"""

from bayesjoint.couplings.correlated import CorrelatedFields
from bayesjoint.couplings.cross_gradient import CrossGradient
from bayesjoint.couplings.edges import JointSparsity, JointTotalVariation
from bayesjoint.couplings.mixture import PropertyMixture
from bayesjoint.couplings.normaliser import Normaliser
from bayesjoint.couplings.relation import PropertyRelation

__all__ = [
    "CorrelatedFields",
    "CrossGradient",
    "JointSparsity",
    "JointTotalVariation",
    "Normaliser",
    "PropertyMixture",
    "PropertyRelation",
]
