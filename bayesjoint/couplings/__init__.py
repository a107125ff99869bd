"""Couplings: how properties inform each other before any data are seen.

Structural ones are prior potentials (`cross_gradient`, `edges`), petrophysical and statistical ones
shape the prior of the fields themselves, so that it stays normalised.
"""

from bayesjoint.couplings.cross_gradient import CrossGradient
from bayesjoint.couplings.edges import JointSparsity, JointTotalVariation

__all__ = ["CrossGradient", "JointSparsity", "JointTotalVariation"]
