"""How the report looks, in the light and in the dark: the style sheet of its page and plots."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2530; --soft: #5b6675;
  --rule: #d9dee5; --box: #f5f7f9; --one: #1f6feb; --two: #c2410c; --good: #1a7f37;
  --bad: #cf222e; --band: #8b949e40; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f141a; --ink: #e3e8ee; --soft: #9aa5b3;
  --rule: #2c3540; --box: #171e26; --one: #6cb0ff; --two: #f0883e; --good: #4ac26b;
  --bad: #ff7b72; --band: #8b949e50; } }
body { margin: 0 auto; max-width: 1180px; padding: 28px 32px 60px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
h1 { font-size: 25px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 36px 0 8px; }
p.sub, .note { color: var(--soft); margin: 0 0 14px; font-size: 13.5px; }
ul.conclusion { background: var(--box); border-left: 4px solid var(--one); margin: 18px 0;
  padding: 12px 16px 12px 34px; }
ul.conclusion li:first-child { font-weight: 600; }
li { margin: 3px 0; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 26px; }
@media (max-width: 800px) { .pair { grid-template-columns: 1fr; } }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: 13.5px; margin-top: 2px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; }
svg text.label { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.grid { stroke: var(--rule); }
.axis { stroke: var(--soft); }
.line { fill: none; stroke: var(--one); stroke-width: 2; }
.dot { stroke: var(--paper); stroke-width: 1.2; fill: var(--soft); fill-opacity: .75; }
.dot.front { fill: var(--one); }
.dot.best { fill: var(--good); fill-opacity: 1; }
.dot.default { fill: var(--two); fill-opacity: 1; }
.dot.hint { fill: var(--ink); fill-opacity: 1; }
.error { stroke: var(--soft); stroke-width: 1.4; }
.noise { fill: var(--band); }
.bar.good { fill: var(--good); }
.bar.bad { fill: var(--bad); }
.bar.none { fill: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.s { overflow-wrap: anywhere; min-width: 180px; }
td.good { color: var(--good); }
td.bad { color: var(--bad); }
td.w { white-space: nowrap; }
tr.best td { font-weight: 600; }
details { margin-top: 10px; }
summary { cursor: pointer; color: var(--one); }
"""
