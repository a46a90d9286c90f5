"""What all pages share: their looks, and their frame.

A page is well-formed XML too, so that other programs can read it.
"""

from __future__ import annotations

from html import escape
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #ffffff;
  --card: #f4f6f9; --rule: #d5dbe3; --plain: #2f6fb7; --warm: #d08a2e;
  --limit: #c2453d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --paper: #14181e; --card: #1d232c; --rule: #36404d;
    --plain: #6aa5e8; --warm: #e0a555; --limit: #ec7b73; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 46rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; overflow-wrap: anywhere; }
p.note { margin: 0 0 .5rem; color: var(--soft); font-size: .875rem; }
section.verdict { background: var(--card); border-left: 4px solid var(--limit);
  padding: .75rem 1rem; margin: 1.5rem 0; }
section.good { border-color: var(--plain); }
section.verdict p { margin: .25rem 0; }
section.verdict p.headline { font-size: 1.125rem; font-weight: 600; }
p.warning { border-left: 4px solid var(--warm); padding-left: .75rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; dominant-baseline: central; }
svg text.label { text-anchor: end; }
svg text.value { fill: var(--soft); }
svg line.axis { stroke: var(--rule); }
svg polygon.area { fill: var(--plain); fill-opacity: .2; }
svg polyline.line { fill: none; stroke: var(--plain); stroke-width: 1.5; }
svg text.tick { fill: var(--soft); font-size: 11px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
td:first-child { min-width: 9rem; }
rect.plain { fill: var(--plain); } rect.warm { fill: var(--warm); }
rect.limit { fill: var(--limit); }
footer { margin: 2rem 0; color: var(--soft); font-size: .875rem; }
"""


def page(title: str, body: str) -> str:
    """A whole page, to be written in UTF-8, around the elements of its body."""
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        '<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{words(title)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def words(text: str) -> str:
    """Text within an element, or an attribute: whatever a name or a message holds."""
    return escape("".join(one if one.isprintable() else " " for one in text))
