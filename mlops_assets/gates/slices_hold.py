"""A gate for the parts of the golden set: better on the whole must not mean worse for some."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_assets.evaluation.report import Comparison, EvaluationReport
from mlops_assets.evaluation.slice_discovery import Discovery, discover
from mlops_assets.evaluation.slices import Slice, compare_slice
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.comparing import MINIMUM_CLUSTERS, is_positive
from mlops_assets.gates.error_control import holm_levels
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement
from mlops_assets.gates.power import required_clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicesHold:
    """Pass a candidate that is worse than the champion by less than ``margin`` in each slice, shown at ``alpha``.

    ``PASSED`` when that is shown for every declared slice (an intersection-union test: a candidate that loses the
    margin in any of them passes at rate ``alpha`` at most, however many there are), and nothing was discovered.
    ``FAILED`` when a declared slice is worse, shown at ``alpha`` over all of them (Holm), or discovery found parts that
    lose more than the margin (false discovery rate). Else ``INCONCLUSIVE``, naming the slices that are empty or too
    small to tell, with the clusters that an equal candidate would need for ``power``.
    """

    metric: str
    margin: float
    slices: tuple[Slice, ...] = ()
    discovery: Discovery | None = field(default_factory=Discovery)
    alpha: float = 0.05
    power: float = 0.8
    minimum_clusters: int = MINIMUM_CLUSTERS

    @property
    def name(self) -> str:
        """``slices_hold_<metric>``."""
        return f"slices_hold_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [fault for part in self.slices for fault in part.faults()]
        found += self.discovery.faults() if self.discovery else []
        names = [part.name for part in self.slices]
        found += [f"the slice {name!r} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if not self.slices and self.discovery is None:
            found.append("it has no slices and looks for none")
        if not is_positive(self.margin):
            found.append(f"margin is {self.margin}, must be a finite number above 0")
        if not 0 < self.alpha <= 0.5:
            found.append(f"alpha is {self.alpha}, must be above 0 and at most 0.5")
        return [f"{self.name}: {fault}" for fault in found]

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return the comparison on each slice, and what discovery found."""
        metric = bench.metrics[self.metric]
        found: dict[str, Any] = {"slices": [compare_slice(bench, part, metric) for part in self.slices]}
        if self.discovery is not None:
            found["discovery"] = discover(bench, metric, self.discovery, margin=self.margin)
        return found

    def claims(self, report: EvaluationReport) -> Mapping[str, tuple[float, float]]:
        """Return one claim per slice that can be compared: "it loses less than the margin"."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return {}
        return {
            self._claim(name): (comparison.p_beyond(-self.margin), self.alpha)
            for name, comparison in _comparisons(found).items()
        }

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the bounds of every slice, and by what was discovered."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        if report.champion is None:
            return Judgement(Verdict.PASSED, "there is no champion to compare with", {"slices": len(self.slices)})
        evidence = self._evidence(found, known)
        worse = [part["name"] for part in evidence["slices"] if part["is_worse"]]
        worse += [part["where"] for part in evidence.get("discovered", ())]
        unshown = [self._doubt(part) for part in evidence["slices"] if not part["holds"]]
        if worse:
            return Judgement(Verdict.FAILED, f"worse in {'; '.join(worse)}", evidence)
        if unshown:
            return Judgement(Verdict.INCONCLUSIVE, f"not shown in {'; '.join(unshown)}", evidence)
        tested = f", none found among {evidence['tested']} others" if "tested" in evidence else ""
        return Judgement(Verdict.PASSED, f"no loss of {self.margin:g} in {len(self.slices)} slices{tested}", evidence)

    def _evidence(self, found: Mapping[str, Any], known: Known) -> dict[str, Any]:
        comparisons = _comparisons(found)
        harm = {name: 1 - comparison.p_beyond(0.0) for name, comparison in comparisons.items()}
        levels = holm_levels(harm, self.alpha)
        parts = [
            self._part(part, comparisons.get(part["name"]), known, levels.get(part["name"], 0.0))
            for part in found["slices"]
        ]
        evidence: dict[str, Any] = {"metric": self.metric, "margin": self.margin, "alpha": self.alpha, "slices": parts}
        if "discovery" in found:
            evidence |= {"tested": found["discovery"]["tested"], "discovered": found["discovery"]["found"]}
        return evidence

    def _part(
        self, part: Mapping[str, Any], found: Comparison | None, known: Known, harm_level: float
    ) -> dict[str, Any]:
        """Return what is known of one slice: its interval, whether it holds, whether it is worse, what it needs."""
        facts: dict[str, Any] = {name: part[name] for name in ("name", "rows", "clusters")}
        if found is None or part["clusters"] < self.minimum_clusters:
            return facts | {"holds": False, "is_worse": False, "needed": self.minimum_clusters, "gain": None}
        level = known.level(self._claim(part["name"]), self.alpha)
        needed = required_clusters(
            standard_error=found.standard_error,
            clusters=part["clusters"],
            effect=self.margin,
            alpha=level or self.alpha,
            power=self.power,
        )
        return facts | {
            "gain": found.gain,
            "lower_bound": found.lower(level or self.alpha),
            "upper_bound": found.upper(level or self.alpha),
            "p_value": found.p_beyond(-self.margin),
            "level": level,
            "needed": max(self.minimum_clusters, needed),
            "holds": level > 0 and found.p_beyond(-self.margin) <= level,
            "is_worse": harm_level > 0
            and found.upper(harm_level) < 0
            and found.lower(level or self.alpha) <= -self.margin,
        }

    def _doubt(self, part: Mapping[str, Any]) -> str:
        if part["gain"] is None:
            return f"{part['name']} ({part['clusters']} clusters, {part['rows']} rows; needs {part['needed']})"
        return f"{part['name']} (at least {part['lower_bound']:+.4g}; {part['clusters']} clusters of {part['needed']})"

    def _claim(self, part: str) -> str:
        return f"{self.name}:{part}"


def _comparisons(found: Mapping[str, Any]) -> dict[str, Comparison]:
    return {
        part["name"]: Comparison(**{**part["comparison"], "pivots": tuple(part["comparison"]["pivots"])})
        for part in found["slices"]
        if part["comparison"] is not None
    }
