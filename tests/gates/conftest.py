import pytest

from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport


def report_with(
    metric: str = "brier",
    *,
    gain: float = 0.01,
    error: float = 0.002,
    p_value: float | None = None,
    estimate: tuple[float, float, float] = (0.2, 0.19, 0.21),
    clusters: int = 100,
    champion: str | None = "sha256:bb",
) -> EvaluationReport:
    """A report whose comparison follows the normal distribution, unless ``p_value`` says otherwise."""
    from scipy import stats

    found = Comparison(
        gain=gain,
        low=gain - 1.959964 * error,
        high=gain + 1.959964 * error,
        p_value=float(stats.norm.sf(gain / error)) if p_value is None else p_value,
        standard_error=error,
    )
    value, low, high = estimate
    return EvaluationReport(
        product="films",
        candidate="sha256:aa",
        golden="sha256:cc",
        rows=clusters * 10,
        clusters=clusters,
        champion=champion,
        candidate_metrics={metric: Estimate(value=value, low=low, high=high)},
        comparisons={metric: found} if champion else {},
    )


@pytest.fixture(scope="session")
def with_report():
    return report_with
