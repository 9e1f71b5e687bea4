"""Pictures of judgements: what is drawn, and where the line lies."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from mlops_assets.evaluation.report import Comparison
from mlops_assets.evaluation.slices import Slice
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.calibrated import Calibrated
from mlops_assets.gates.fair import Fair
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.plots import COLOURS, plot_judgement
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.gates.stable_predictions import StablePredictions


def lines(figure):
    return figure.axes[0].get_lines()


def test_a_comparison_is_drawn_with_its_bounds_and_the_margin(with_report):
    judgement = NonInferior(metric="brier", margin=0.02).judge(with_report(gain=0.01, error=0.002))
    interval, point, zero, margin = lines(plot_judgement(judgement))
    assert list(interval.get_xdata()) == pytest.approx(
        [judgement.evidence["lower_bound"], judgement.evidence["upper_bound"]]
    )
    assert (point.get_xdata()[0], zero.get_xdata()[0], margin.get_xdata()[0]) == (0.01, 0, -0.02)
    assert point.get_color() == COLOURS[True]


def test_each_slice_has_an_interval_in_the_colour_of_what_was_shown(with_report):
    def part(name, gain, error=0.002):
        found = Comparison(gain=gain, low=gain, high=gain, p_value=0.5, standard_error=error)
        return {"name": name, "where": name, "rows": 900, "clusters": 300, "comparison": asdict(found)}

    gate = SlicesHold(metric="brier", margin=0.01, slices=(Slice(name="a", where="a"),), discovery=None)
    parts = [part("good", 0.01), part("bad", -0.05), part("doubt", -0.008, 0.008)]
    report = replace(with_report(), measured={gate.name: {"slices": parts}})
    figure = plot_judgement(gate.judge(report))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["good", "bad", "doubt"]
    points = [line for line in lines(figure) if line.get_marker() == "o"]
    assert [point.get_color() for point in points] == [COLOURS[True], COLOURS[None], COLOURS[False]]


def test_calibration_is_a_reliability_diagram_and_groups_and_shares_are_intervals(with_report):
    estimate = {"value": 0.1, "low": 0.05, "high": 0.15}
    bins = [{"rows": 100, "score": 0.3, "label": 0.2, "difference": estimate}]
    measured = {"calibrated": {"bins": bins}}
    groups = {name: {"rows": 100, "rate": estimate} for name in ("x", "y")}
    fair = Fair(group="town", what="selection_rate", tolerance=0.2)
    churn = {"churn": estimate, "mean_difference": 0.1, "rows": 10}
    measured |= {fair.name: {"groups": groups}, "stable_predictions": churn}
    report = replace(with_report(), measured=measured)
    diagram = plot_judgement(Calibrated(tolerance=0.2).judge(report))
    assert diagram.axes[0].get_xlabel() == "mean score"
    assert list(lines(diagram)[1].get_ydata()) == pytest.approx([0.15, 0.25])
    assert len(plot_judgement(fair.judge(report)).axes[0].get_yticklabels()) == 2
    share = plot_judgement(StablePredictions(tolerance=0.12).judge(report))
    assert lines(share)[-1].get_xdata()[0] == 0.12


def test_what_has_no_interval_has_no_picture(with_report):
    assert plot_judgement(AtLeast(metric="other", floor=0.1).judge(with_report())) is None
    assert np.isfinite(plot_judgement(NonInferior(metric="brier", margin=1).judge(with_report())).get_figwidth())
