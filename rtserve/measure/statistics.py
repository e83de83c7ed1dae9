r"""Intervals and paired differences over people, and the rule by which a difference is called one.

**What is resampled.** Windows of one subject are alike, so the subject is the unit wherever two or more are known;
windows are units otherwise, and everything that is said of them says so. All metrics here are ratios of sums over
units; a unit's *influence* :math:`u_i` is the gradient of the metric at the sums times the unit's own sums, and
:math:`\frac{n}{n-1} \sum u_i^2` estimates the metric's variance in a bootstrap sample. The standard error :math:`s` of
the metric itself is that of leaving each unit out (the delete-one jackknife), which is larger where units are of
unequal size.

**An interval** takes the widest ends of three rules. (1) Student's t, :math:`\phi(\theta) \pm t_{n-1}\, \phi'(\theta) s`
on the scale :math:`\phi` of the metric: the logarithm of an error, Fisher's z of a correlation, the logit of a share.
(2) The studentised bootstrap on that scale, which follows the skewness of few and unequal people. (3) The
bias-corrected percentile bootstrap, expanded for few units: a normalised error is pushed up in every draw of few
people. Each alone misses somewhere (measured in ``benchmarks/coverage.py``): (3) holds a squared error's truth in 50 to
65 % where noisy people have more trials, (1) and (2) a normalised error of ten people in 88 to 90 %. Unless people
with larger errors have fewer windows, the upper end is also that of a lognormal population. With fewer than five units (1)
alone is left. A share at its bound (64 of 64 right) has no spread to resample: its interval is exact, by units.
Where the errors' tail index says that the metric has no variance at all, the interval is marked, and no verdict rests
on it.

**A difference** is called one where its interval excludes 0 and the test agrees that swaps the two predictions of
whole units. The test's smallest p is :math:`2/2^n`: under six subjects nothing can be shown, and nothing is said to be
detectable. Verdicts of one report are a family: its p are corrected by the step-down max-T over the same swaps, the raw
p stays beside it. What is *detectable* is the size found in 80 % of studies simulated under that same rule,
with people who gain unequally and a spread that is known as badly as so few people tell it (`rtserve.measure.power`).
"""

from __future__ import annotations

from rtserve.measure.differences import Difference, corrected, difference, holm
from rtserve.measure.intervals import LEVEL, bootstrap_ends, ends, interval
from rtserve.measure.resampling import RESAMPLES, Units, replicate, resampled, weighted_sum

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Difference",
    "Units",
    "bootstrap_ends",
    "corrected",
    "difference",
    "ends",
    "holm",
    "interval",
    "replicate",
    "resampled",
    "weighted_sum",
]
