"""Gates that no candidate could pass together, found before anything runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mlops_assets.evaluation.metrics import Metric
from mlops_assets.gates.at_least import AtLeast, AtMost
from mlops_assets.gates.equivalent import Equivalent
from mlops_assets.gates.gate import Gate
from mlops_assets.gates.superior import Superior


def contradictions(gates: Sequence[Gate], metrics: Iterable[Metric]) -> list[str]:
    """Return what cannot hold at once, one sentence each: limits that exclude each other, gains that are too much."""
    known = {metric.name: metric for metric in metrics}
    return [*_limits(gates, known), *_gains(gates, known)]


def _limits(gates: Sequence[Gate], metrics: Mapping[str, Metric]) -> Iterator[str]:
    floors = [gate for gate in gates if isinstance(gate, AtLeast)]
    ceilings = [gate for gate in gates if isinstance(gate, AtMost)]
    for floor in floors:
        metric = metrics.get(floor.metric)
        if metric is not None and floor.floor > metric.highest:
            yield f"{floor.name} wants {floor.floor:g}, but {metric.name} is never above {metric.highest:g}"
        for ceiling in ceilings:
            if ceiling.metric == floor.metric and ceiling.ceiling < floor.floor:
                yield f"{floor.name} wants {floor.floor:g} and {ceiling.name} allows {ceiling.ceiling:g}: no value does"
    for ceiling in ceilings:
        metric = metrics.get(ceiling.metric)
        if metric is not None and ceiling.ceiling < metric.lowest:
            yield f"{ceiling.name} allows {ceiling.ceiling:g}, but {metric.name} is never below {metric.lowest:g}"


def _gains(gates: Sequence[Gate], metrics: Mapping[str, Metric]) -> Iterator[str]:
    superior = [gate for gate in gates if isinstance(gate, Superior)]
    equivalent = {gate.metric: gate for gate in gates if isinstance(gate, Equivalent)}
    for gate in superior:
        metric, same = metrics.get(gate.metric), equivalent.get(gate.metric)
        if metric is not None and gate.minimum_effect > metric.highest - metric.lowest:
            yield f"{gate.name} looks for a gain of {gate.minimum_effect:g}, more than {metric.name} can ever change"
        if same is not None and gate.minimum_effect >= same.margin:
            yield (
                f"{gate.name} looks for a gain of {gate.minimum_effect:g}, which {same.name} forbids: it allows less "
                f"than {same.margin:g} either way"
            )
