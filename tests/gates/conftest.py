from datetime import UTC, datetime

import pytest

from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport
from mlops_assets.ledger.entry import GENESIS, Entry, Kind


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


def judged_entry(report: EvaluationReport, *, sequence: int = 1, **more) -> Entry:
    """The ledger's entry of a judgement of ``report``."""
    body = {"candidate": report.candidate, "champion": report.champion, "report": report.digest}
    body |= {"verdict": "PASSED", "judgements": [], "evaluation": report.to_json(), "run_id": f"run-{sequence}"}
    fields = {"product": report.product, "kind": Kind.JUDGED, "actor": "gates", "body": body | more}
    return Entry(sequence=sequence, at=datetime(2026, 1, 1, tzinfo=UTC), previous=GENESIS, digest=GENESIS, **fields)


@pytest.fixture(scope="session")
def judged():
    return judged_entry


@pytest.fixture(scope="session")
def with_report():
    return report_with
