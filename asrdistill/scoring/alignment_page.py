"""What became of each word of every utterance, as one HTML page that needs no network, on any screen.

An error has a letter and a colour: S substituted, the reference above what was recognised; D deleted, struck
through; I inserted, underlined.
"""

from collections.abc import Sequence
from itertools import groupby
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from asrdistill.scoring.aligned_text import AlignedUtterance, Pair, count_confusions
from asrdistill.scoring.word_alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION

NUM_CONFUSIONS = 20
_NAMES = {SUBSTITUTION: "substituted", DELETION: "deleted", INSERTION: "inserted"}
_TEMPLATE = """\
{% macro word(pair) %}
<span class="e {{ pair[0] }}" title="{{ names[pair[0]] }}"><b>{{ pair[0] }}</b><span>
{%- if pair[1] is not none %}<del>{{ pair[1] }}</del>{% endif %}
{%- if pair[2] is not none %}<ins>{{ pair[2] }}</ins>{% endif %}</span></span>
{% endmacro %}
{% macro frequent(title, rows) %}
{% if rows %}
<table><caption>{{ title }}</caption>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endif %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --text: #1c2024; --muted: #5d6671; --rule: #dde1e6; --paper: #fefefe;
  --S: #8a4b00; --D: #b3261e; --I: #1f5fa8; }
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e7eaee; --muted: #98a2ae; --rule: #30363d; --paper: #13171b;
    --S: #f0b45c; --D: #ff8f85; --I: #7fb8f0; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 60rem; padding: 1.25rem 1rem 4rem; background: var(--paper);
  color: var(--text); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.35rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: .875rem; font-weight: 400; margin: 0; color: var(--muted); }
h2 a { color: inherit; font-weight: 650; }
section { border-top: 1px solid var(--rule); padding: .6rem 0; }
section:target { border-left: 4px solid var(--text); padding-left: .6rem; }
p { margin: .25rem 0; line-height: 1.9; }
.quiet, caption { color: var(--muted); font-size: .875rem; text-align: left; }
caption { white-space: nowrap; }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem 2rem; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; }
td { padding: .1rem .8rem .1rem 0; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.e { display: inline-flex; align-items: center; gap: .3rem; vertical-align: middle; margin: .1rem 0;
  padding: 0 .35rem; border: 1px solid currentColor; border-radius: 4px; line-height: 1.3; }
.e > span { display: inline-flex; flex-direction: column; }
.e b { font-size: .75rem; }
.S { color: var(--S); }
.D { color: var(--D); border-style: dashed; }
.I { color: var(--I); border-style: dotted; border-width: 2px; }
del, ins { text-decoration: none; }
.D del { text-decoration: line-through; }
.I ins { text-decoration: underline; }
@media print { body { max-width: none; } section { break-inside: avoid; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ word(("S", "said", "recognised")) }} substituted
{{ word(("D", "said", none)) }} deleted
{{ word(("I", none, "recognised")) }} inserted</p>
<p class="quiet">{{ utterances | length }} utterances, those with the most errors first.</p>
<div class="tables">
{{ frequent("Substituted most often", confusions.substitutions) }}
{{ frequent("Deleted most often", confusions.deletions) }}
{{ frequent("Inserted most often", confusions.insertions) }}
</div>
{% for utterance in utterances %}
<section id="{{ utterance.id | anchor }}">
<h2><a href="#{{ utterance.id | anchor | anchor }}">{{ utterance.id }}</a>
{%- if utterance.speaker is not none %}, speaker {{ utterance.speaker }}{% endif %},
{{ utterance.count("S") }} S, {{ utterance.count("D") }} D, {{ utterance.count("I") }} I,
{{ utterance.count("C") }} correct</h2>
<p>{% for is_correct, pairs in utterance.pairs | runs %}
{% if is_correct %}{{ pairs | map(attribute=1) | join(" ") }}
{% else %}{% for pair in pairs %}{{ word(pair) }}{% endfor %}{% endif %}
{% endfor %}</p>
</section>
{% endfor %}
</body>
</html>
"""


def render_alignments(utterances: Sequence[AlignedUtterance], title: str) -> str:
    """Render the page: frequent confusions, then every utterance, those with the most errors first.

    The same input gives the same bytes. An utterance's anchor is its id, percent-encoded.

    Args:
        utterances: what `align_utterances` gave; of equally many errors they stay in order.
        title: of the page.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"anchor": _quote, "runs": _split_runs}
    return environment.from_string(_TEMPLATE).render(
        title=title,
        names=_NAMES,
        confusions=count_confusions(utterances, NUM_CONFUSIONS),
        utterances=sorted(utterances, key=lambda utterance: -utterance.errors),
    )


def _quote(text: str) -> str:
    return quote(text, safe="")


def _split_runs(pairs: Sequence[Pair]) -> list[tuple[bool, list[Pair]]]:
    """Correct words, and others, as far as they follow each other."""
    return [(is_correct, list(run)) for is_correct, run in groupby(pairs, lambda pair: pair[0] == CORRECT)]
