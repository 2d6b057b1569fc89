"""Checks that every page of the dashboard must pass, in light and dark, wide and narrow."""

from pathlib import Path
from typing import Final, Literal

from tests.browser.conftest import Watched

_AXE: Final = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN: Final = """rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']}).then(found =>
    found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.target + ' ' + node.failureSummary).join(' | ')))"""
_OUTSIDE: Final = """() => document.documentElement.scrollWidth > innerWidth
    ? [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => 'outside the viewport: ' + e.tagName + '.' + e.className).slice(0, 5) : []"""
_CUT: Final = """() => [...document.querySelectorAll('.cards button, .cards select')].filter(e => e.getClientRects().length
    && e.getBoundingClientRect().right > e.closest('table').parentElement.getBoundingClientRect().right + 1)
    .map(e => 'cut off: ' + e.tagName + ' ' + e.ariaLabel).slice(0, 5)"""
WIDE: Final = (1280, 900)
NARROW: Final = (375, 800)
_LOOKS: Final[tuple[tuple[Literal["light", "dark"], tuple[int, int]], ...]] = (
    ("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW),
)  # fmt: skip


def audit_page(watched: Watched) -> None:
    """Fail unless the current page passes all checks, in light and dark, wide and 375 pixels narrow.

    The checks: no axe violations (WCAG 2.2 AA), no browser errors since the page was opened (Content-Security-Policy violations
    included), no requests to other hosts, no horizontal scrolling, and no button of a table outside it.
    """
    page = watched.page
    page.evaluate(_AXE)  # through the debugger, to which the page's policy does not apply
    found = []
    for scheme, (width, height) in _LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        # What axe finds depends on colours or on width, so it runs in two of the four: light and wide, dark and narrow.
        thorough = (scheme == "light") == (width == WIDE[0])
        problems = [*(page.evaluate(_RUN, _RULES) if thorough else []), *page.evaluate(_OUTSIDE), *page.evaluate(_CUT)]
        found += [f"{scheme}, {width} wide: {one}" for one in problems]
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    found += [*watched.complaints, *watched.strangers()]
    if found:
        raise AssertionError("\n".join([page.url, *found]))
