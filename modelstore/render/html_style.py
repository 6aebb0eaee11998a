"""The look of the HTML report: nothing is loaded, the reader's light or dark is followed."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #1b222c; --dim: #5b6572; --line: #e0e4e9;
  --good: #17733f; --warn: #8a5a00; --bad: #b3261e; --note: #4d5a6b;
  --good-tint: #e3f4ea; --warn-tint: #fdf1d6; --bad-tint: #fce8e6; --note-tint: #eceff3;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1217; --card: #161c23; --ink: #e4e9ef; --dim: #98a3b0; --line: #28313b;
    --good: #57c98d; --warn: #e3b548; --bad: #ff8a80; --note: #a8b4c2;
    --good-tint: #12291d; --warn-tint: #2c2410; --bad-tint: #331a1a; --note-tint: #1f262f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 var(--sans); -webkit-text-size-adjust: 100%; overflow-wrap: anywhere;
}
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1, h2, h3, p, ul, ol, dl, pre { margin: 0; }
h2 {
  font-size: .8125rem; font-weight: 600; color: var(--dim); letter-spacing: .06em;
  text-transform: uppercase; margin: 2rem 0 .625rem;
}
code, pre { font-family: var(--mono); font-size: .84em; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.good { --tone: var(--good); --tint: var(--good-tint); }
.warn { --tone: var(--warn); --tint: var(--warn-tint); }
.bad { --tone: var(--bad); --tint: var(--bad-tint); }
.note { --tone: var(--note); --tint: var(--note-tint); }

.verdict { padding: 1.5rem; border-top: .375rem solid var(--tone); }
.brand { font-family: var(--mono); font-size: .8125rem; color: var(--dim); }
h1 {
  display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .75rem;
  font-size: 2.5rem; line-height: 1.2; margin: .25rem 0 .5rem; color: var(--tone);
}
h1 small { font-size: 1.125rem; font-weight: 500; color: var(--ink); }
.database { font-family: var(--mono); font-size: .9375rem; }
.facts { color: var(--dim); font-size: .875rem; margin-top: .25rem; }
.facts span:not(:last-child)::after { content: " · "; }

.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem; margin-top: .75rem; }
.tile { padding: .75rem 1rem; font-size: .875rem; color: var(--dim); }
.tile b {
  display: block; font-size: 1.625rem; line-height: 1.2; font-variant-numeric: tabular-nums;
  color: var(--tone);
}
.tile.none b { color: var(--dim); opacity: .55; }

.todo { list-style: none; padding: 0; overflow: hidden; }
.todo li { padding: .625rem 1.25rem .625rem 1rem; border-left: .25rem solid var(--tone); }
.todo li + li { border-top: 1px solid var(--line); }
.todo p { color: var(--dim); font-size: .875rem; }

.wal { padding: 1rem 1.25rem 1.125rem; }
.bar { display: flex; height: .625rem; border-radius: .3125rem; overflow: hidden; }
.bar { background: var(--note-tint); margin-bottom: .75rem; }
.bar i { background: var(--good); }
.bar i + i { background: var(--warn); }
.numbers { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
.numbers dt { color: var(--dim); font-size: .8125rem; }
.numbers dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.wal > p { color: var(--dim); font-size: .875rem; margin-top: .75rem; }

.check { margin-bottom: .75rem; padding: 1rem 1.25rem; }
.check header { display: flex; align-items: baseline; gap: .625rem; }
.check h3 { font-size: 1.0625rem; }
.check header p { color: var(--dim); font-size: .875rem; flex: 1; }
.check time { color: var(--dim); font-size: .8125rem; white-space: nowrap; }
.check ul { list-style: none; padding: 0; }
.check li {
  display: grid; grid-template-columns: 3.25rem 1fr; gap: 0 .75rem; align-items: baseline;
  padding-top: .625rem; margin-top: .625rem; border-top: 1px solid var(--line);
}
.badge {
  font-size: .75rem; font-weight: 600; text-align: center; border-radius: .375rem;
  padding: .125rem 0; color: var(--tone); background: var(--tint);
}
.where { font-family: var(--mono); font-size: .8125rem; color: var(--dim); }
.advice { font-size: .9375rem; margin-top: .25rem; padding-left: .75rem; }
.advice { border-left: 2px solid var(--tone); }
details { margin-top: .375rem; font-size: .8125rem; color: var(--dim); }
summary { cursor: pointer; width: max-content; max-width: 100%; }
pre {
  margin-top: .375rem; padding: .75rem; border-radius: .5rem; background: var(--note-tint);
  color: var(--ink); overflow: auto; max-height: 24rem; white-space: pre-wrap;
}
footer { margin-top: 2rem; color: var(--dim); font-size: .8125rem; }

@media (max-width: 34rem) {
  main { padding: .75rem .75rem 2rem; }
  .verdict { padding: 1.125rem 1rem; }
  h1 { font-size: 2rem; }
  .tiles { gap: .5rem; }
  .tile { padding: .5rem .625rem; font-size: .75rem; }
  .tile b { font-size: 1.25rem; }
  .check, .wal { padding: .875rem 1rem; }
  .check header { flex-wrap: wrap; gap: 0 .625rem; }
  .check header p { order: 3; flex-basis: 100%; }
  .check time { margin-left: auto; }
}
@media print {
  body { background: none; font-size: 11pt; }
  .card { break-inside: avoid; }
}
"""
