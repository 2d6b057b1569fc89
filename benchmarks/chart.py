"""The benchmark as a picture: one bar for each subject, legible on light and dark pages."""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from benchmarks.stats import Result

SHOWN: Final = ("asgi", "bearer", "basic", "proxy", "session", "pg-bearer", "miss", "view", "api-key", "drf", "knox", "skypilot")
WIDTH: Final = 860
LEFT: Final = 330  # where bars begin
RIGHT: Final = 100  # room for the figure behind the longest bar
TOP: Final = 64
STEP: Final = 30
_FONT: Final = 'font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif" font-size="14"'
_STYLE: Final = """
  .page { fill: #f8fafc } .title { fill: #0f172a; font-weight: 600 } .label { fill: #334155 } .figure { fill: #475569 }
  .ours { fill: #4f46e5 } .other { fill: #94a3b8 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0f172a } .title { fill: #f1f5f9 } .label { fill: #cbd5e1 } .figure { fill: #94a3b8 }
    .ours { fill: #818cf8 } .other { fill: #64748b }
  }
"""


def draw(results: Sequence[Result]) -> str:
    """Return an SVG with the subjects of SHOWN that were measured, in that order."""
    found = {result.key: result for result in results}
    members = [found[key] for key in SHOWN if key in found]
    longest = max(result.rate for result in members)
    height = TOP + STEP * len(members) + 16
    title = "Answers per second, one worker"
    told = "; ".join(f"{name(one)} {one.rate:,.0f}" for one in members)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" {_FONT}',
        f"  aria-label={quoteattr(f'{title}: {told}.')}>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>',
        f'<text class="title" x="24" y="36" font-size="16">{title}</text>',
    ]
    for n, one in enumerate(members):
        y = TOP + STEP * n
        length = max(2.0, one.rate / longest * (WIDTH - LEFT - RIGHT))
        whose = "ours" if one.section.startswith("SkyAuth") else "other"
        lines += [
            f'<text class="label" x="{LEFT - 12}" y="{y + 15}" text-anchor="end">{escape(name(one))}</text>',
            f'<rect class="{whose}" x="{LEFT}" y="{y}" width="{length:.1f}" height="20" rx="3"/>',
            f'<text class="figure" x="{LEFT + length + 8:.1f}" y="{y + 15}">{one.rate:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def name(result: Result) -> str:
    """Return what a bar is called: outside its section SkyAuth's own would not say whose they are."""
    if not result.section.startswith("SkyAuth"):
        return result.title
    return f"SkyAuth, {result.title}" + (", PostgreSQL" if "PostgreSQL" in result.section else "")
