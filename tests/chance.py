"""How far chance goes: limits that a right result passes beyond in one of a thousand tests.

Half of that is planned for: Monte Carlo errors are estimates too, and where they scatter by 5 %
scores beyond such limits are half again as frequent.
"""

import numpy as np
from scipy import stats

CHANCE = 5e-4  # of a false alarm of one test, whatever it compares


def largest_z(count=1, chance=CHANCE):
    """Return the limit of the largest of some standard normal scores, however they depend."""
    return stats.norm.isf(0.5 * chance / count)


def largest_t(replicates, count=1, chance=CHANCE):
    """Return that of scores whose errors are from the scatter of as many replicates."""
    return stats.t.isf(0.5 * chance / count, replicates - 1)


def uniform(*samples, chance=CHANCE):
    """Whether samples are uniform between 0 and 1, by Kolmogorov and Smirnov."""
    return min(stats.kstest(s, "uniform").pvalue for s in samples) > chance / len(samples)


def by_chance(hits, count, share, comparisons=1, chance=CHANCE):
    """Whether hits of as many independent trials have their expected share, binomial tails."""
    hits = int(np.rint(hits))
    tail = min(stats.binom.cdf(hits, count, share), stats.binom.sf(hits - 1, count, share))
    return tail > 0.5 * chance / comparisons
