"""How many clusters a comparison needs, and what those at hand could have shown.

The standard error of a clustered comparison shrinks with the root of the number of clusters of the same kind (Donner
and Klar 2000, "Design and Analysis of Cluster Randomization Trials in Health Research", ch. 5). A one-sided test at
``alpha`` shows a true effect with probability ``power`` when the effect is ``t[1 - alpha] + t[power]`` standard errors
(Chow, Shao, Wang and Lokhnygina 2017, "Sample Size Calculations in Clinical Research", ch. 3). The quantiles are
Student's with one degree of freedom less than the clusters observed: the standard error was estimated from them.
"""

from math import ceil

from scipy.special import stdtrit


def required_clusters(*, standard_error: float, clusters: int, effect: float, alpha: float, power: float) -> int:
    """Return how many clusters show a true ``effect`` with probability ``power``; 2 at least.

    ``standard_error`` is of the difference, as observed with ``clusters`` of them: in the report at hand, or, before
    the run, in an earlier one. ``ValueError`` for fewer than two clusters or an effect that is not positive.
    """
    if clusters < 2 or effect <= 0:
        raise ValueError(f"needs 2 clusters and a positive effect, found {clusters} and {effect}")
    errors = _errors_apart(clusters, alpha, power)
    return max(2, ceil(round(clusters * (errors * standard_error / effect) ** 2, 6)))


def detectable_effect(*, standard_error: float, clusters: int, alpha: float, power: float) -> float:
    """Return the smallest true effect that ``clusters`` show with probability ``power``."""
    return _errors_apart(clusters, alpha, power) * standard_error


def _errors_apart(clusters: int, alpha: float, power: float) -> float:
    return float(stdtrit(clusters - 1, 1 - alpha) + stdtrit(clusters - 1, power))
