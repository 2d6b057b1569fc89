"""What is asked of every page of the dashboard, however it is looked at."""

from pathlib import Path
from typing import Final, Literal

from tests.browser.conftest import Watched

_AXE: Final = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN: Final = """rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']}).then(found =>
    found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.target + ' ' + node.failureSummary).join(' | ')))"""
_BESIDE: Final = """() => document.documentElement.scrollWidth > innerWidth
    ? [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => 'beside the screen: ' + e.tagName + '.' + e.className).slice(0, 5) : []"""
WIDE: Final = (1280, 900)
NARROW: Final = (375, 800)
_LOOKS: Final[tuple[tuple[Literal["light", "dark"], tuple[int, int]], ...]] = (
    ("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW),
)  # fmt: skip


def audit_page(watched: Watched) -> None:
    """Fail unless the page that is shown is as every page must be, in light and dark, wide and 375 pixels narrow.

    No violation that axe finds of WCAG 2.2 AA, nothing that the browser complained of since it was opened (a style or script that
    the policy forbids among it), nothing loaded from elsewhere, and nothing that stands beside the screen.
    """
    page = watched.page
    page.evaluate(_AXE)  # through the debugger, to which the page's policy does not apply
    found = []
    for scheme, (width, height) in _LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        # What axe finds hangs on the colours or on the width, so two of the four have it all: light and wide, dark and narrow.
        thorough = (scheme == "light") == (width == WIDE[0])
        wrong = [*(page.evaluate(_RUN, _RULES) if thorough else []), *page.evaluate(_BESIDE)]
        found += [f"{scheme}, {width} wide: {one}" for one in wrong]
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    found += [*watched.complaints, *watched.strangers()]
    if found:
        raise AssertionError("\n".join([page.url, *found]))
