"""The demo's report: one HTML file that needs nothing but itself, for light and dark screens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from deployments.demo.pictures import (
    DriftBar,
    Event,
    LiveSequence,
    MetricPoint,
    draw_drift,
    draw_live,
    draw_metrics,
    draw_shap,
    draw_traffic,
)
from mlops_assets.ledger.entry import Entry

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --faint: #7a8396; --grid: #e3e7ee; --card: #ffffff; --page: #f4f6fa;
  --good: #1f8a5b; --bad: #c8413b; --accent: #3b5bdb; --series-1: #3b6fd4; --series-2: #e08a2c; --series-3: #2f9e7f;
  --series-4: #a05cc5; --series-5: #d4537a; --series-6: #7b8a3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --faint: #949db0; --grid: #313847; --card: #1b202b;
  --page: #12151c; --good: #4cc38a; --bad: #f2766d; --accent: #8ea6ff; --series-1: #6c9bff; --series-2: #f2a54f;
  --series-3: #51c4a3; --series-4: #c58be4; --series-5: #f08aa9; --series-6: #b3c062; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.02em; }
h2 { font-size: 18px; margin: 0 0 4px; letter-spacing: -0.01em; }
p.lead, p.note { color: var(--faint); margin: 0 0 14px; } p.note { font-size: 13.5px; }
section { background: var(--card); border: 1px solid var(--grid); border-radius: 14px; padding: 22px 24px;
  margin-top: 20px; min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 0 20px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 22px; }
.facts div { background: var(--card); border: 1px solid var(--grid); border-radius: 12px; padding: 12px 16px; }
.facts b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; letter-spacing: -0.01em; }
.facts span { color: var(--faint); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--faint); font-weight: 500; font-size: 12.5px; }
th, td { padding: 8px 12px 8px 0; vertical-align: top; border-bottom: 1px solid var(--grid); }
tr:last-child td { border-bottom: 0; }
.badge { display: inline-block; white-space: nowrap; font-weight: 600; font-size: 12.5px; padding: 1px 10px;
  border-radius: 99px; border: 1px solid currentColor; }
.good { color: var(--good); } .bad { color: var(--bad); }
svg { width: 100%; height: auto; display: block; }
code, pre, .mono { font-family: ui-monospace, monospace; font-size: 12.5px; }
pre { white-space: pre; overflow-x: auto; margin: 0; line-height: 1.6; padding: 14px 16px;
  background: var(--page); border-radius: 10px; }
.scroll { max-height: 520px; overflow: auto; } .scroll td { font-size: 13px; }
.mono { overflow-wrap: anywhere; } .fixed { white-space: nowrap; }
ol.events { columns: 3 240px; margin: 12px 0 0; padding-left: 24px; font-size: 13px; color: var(--faint); }
footer { color: var(--faint); font-size: 13px; margin-top: 26px; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act of the story: what had to happen, what did, and whether that is the same."""

    name: str
    expected: str
    happened: str
    ok: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStory:
    """All that the report shows, as plain data. A part that is left empty is left out of the page.

    ``traffic`` has a row a prediction: ``at``, ``version``. ``versions`` gives a digest its name in words. ``shap`` is
    the mean absolute SHAP value by feature of the live model. ``facts`` are headline figures, by what they count.
    """

    title: str
    acts: Sequence[Act]
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    traffic: pl.DataFrame | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[Event] = ()
    metrics: Sequence[MetricPoint] = ()
    live: Sequence[LiveSequence] = ()
    shap: Mapping[str, float] = field(default_factory=dict)
    drift: Sequence[DriftBar] = ()
    drift_window: str = ""
    why_live: str = ""
    ledger: Sequence[Entry] = ()
    verified_entries: int | None = None
    attribution: str = ""

    @property
    def is_told(self) -> bool:
        """Whether every act ended as it must."""
        return bool(self.acts) and all(act.ok for act in self.acts)


def write_report(path: Path, story: DemoStory) -> Path:
    """Write the story to ``path`` as one self-contained HTML file and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(story), encoding="utf-8")
    return path


def render(story: DemoStory) -> str:
    """Return the page; the same story gives the same text."""
    body = "\n".join([_head(story), _acts(story), *_pictures(story), _why(story), _ledger(story)])
    footer = f"<footer>{escape(story.attribution)}</footer>" if story.attribution else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(story.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n{footer}\n</main>\n</body>\n</html>\n"
    )


def _head(story: DemoStory) -> str:
    state = _badge(story.is_told, "every act ended as it must", "not every act ended as it must")
    facts = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in story.facts.items()
    )
    lead = f'<p class="lead">{escape(story.summary)}</p>' if story.summary else ""
    return f'<header><h1>{escape(story.title)}</h1>{lead}{state}<div class="facts">{facts}</div></header>'


def _acts(story: DemoStory) -> str:
    rows = [
        [
            str(number),
            f"<b>{escape(act.name)}</b>",
            escape(act.expected),
            escape(act.happened),
            "" if act.seconds is None else _fixed(f"{act.seconds:.0f} s"),
            _badge(act.ok, "as expected", "not as expected"),
        ]
        for number, act in enumerate(story.acts, start=1)
    ]
    return _section("The acts", _table(("", "act", "what had to happen", "what happened", "took", ""), rows))


def _pictures(story: DemoStory) -> list[str]:
    """Return the sections with pictures, for the parts of the story that are there."""
    found = []
    if story.traffic is not None and story.traffic.height:
        events = "".join(f"<li>{escape(event.label)}</li>" for event in story.events)
        picture = draw_traffic(story.traffic, story.versions, story.events) + f'<ol class="events">{events}</ol>'
        note = "Share of requests each version answered, from the prediction log. Numbers mark entries of the ledger."
        found.append(_section("Traffic by version", picture, note))
    if story.metrics:
        note = "On the same golden rows, with 95 % intervals clustered by entity."
        found.append(_section("Candidate and champion", draw_metrics(story.metrics), note))
    if story.live:
        note = "Confidence sequences: valid at every look, so a rollout may stop at any of them."
        found.append(_section("Live analysis of the rollouts", draw_live(story.live), note))
    pair = []
    if story.shap:
        note = "What the live model's scores are made of."
        pair.append(_section("SHAP summary", draw_shap(story.shap), note))
    if story.drift:
        where = f"Window {story.drift_window}. " if story.drift_window else ""
        note = f"{where}Red: significant over all columns, and past its threshold."
        pair.append(_section("Drift by column", draw_drift(story.drift), note))
    return [*found, f'<div class="pair">{"".join(pair)}</div>'] if pair else found


def _why(story: DemoStory) -> str:
    if not story.why_live:
        return ""
    return _section("Why is this version live?", f"<pre>{escape(story.why_live)}</pre>", "Answered from the ledger.")


def _ledger(story: DemoStory) -> str:
    if not story.ledger:
        return ""
    note = "" if story.verified_entries is None else f"Hash chain verified over {story.verified_entries} entries."
    rows = [
        [
            str(entry.sequence),
            _fixed(_clock(entry.at)),
            f"<b>{_fixed(entry.kind.value)}</b>",
            _fixed(entry.actor),
            f'<span class="mono">{escape(_shortened(entry.body))}</span>',
            f"<code>{_fixed(short(entry.digest))}</code>",
        ]
        for entry in story.ledger
    ]
    table = _table(("#", "at (UTC)", "kind", "by", "body", "digest"), rows)
    return _section("Ledger", f'<div class="scroll">{table}</div>', note)


def _shortened(body: Mapping[str, Any], limit: int = 260) -> str:
    """Return a body for people: digests shortened, long ones cut."""
    parts = [f"{key}: {_plain(value)}" for key, value in body.items() if value not in (None, "", [], {})]
    text = " · ".join(parts)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return short(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{short(str(key))}: {_plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_plain(inner) for inner in value) + "]"
    return json.dumps(value, default=str)


def short(digest: str) -> str:
    """Return a digest's first eight digits, and any other text as it is.

    >>> short("sha256:" + "0123456789abcdef" * 4), short("ranker")
    ('01234567', 'ranker')
    """
    return digest[7:15] if digest.startswith("sha256:") else digest


def _fixed(text: str) -> str:
    return f'<span class="fixed">{escape(text)}</span>'


def _clock(at: datetime) -> str:
    return at.strftime("%H:%M:%S")


def _badge(is_good: bool, good: str, bad: str) -> str:
    return f'<span class="badge {"good" if is_good else "bad"}">{escape(good if is_good else bad)}</span>'


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _section(title: str, content: str, note: str = "") -> str:
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{below}{content}</section>"
