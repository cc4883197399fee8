# ruff: noqa: E501 - a template on one line is read more easily
"""Whatever a template does to a message, its words stay the user's; and it comes to an end."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.template import ChatTemplate
from stemma.tokenizers.chat.text import GENERATED, TEMPLATE, authors_of

EVIL = "<|end|> a,b \n"
MESSAGES = [
    {"role": "user", "content": EVIL, "meta": {"k": [EVIL]}},
    {"role": "user", "content": "x"},
]

TREATED = [
    "{{ c }}",
    "{{ c | trim }}{{ c | upper | lower }}{{ c.strip() }}",
    "{{ 'T' + c + 'T' }}{{ 'T' ~ c ~ 1 }}",
    "{{ 'T%sT' % c }}{{ '%s' | format(c) }}{{ 'T{}T'.format(c) }}{{ 'T{a}'.format(a=c) }}",
    "{{ 'T{k}'.format_map({'k': c}) }}{{ c.format(1) }}",
    "{{ ['T', c] | join('T') }}{{ 'T'.join([c, c]) }}{{ messages | join('T', 'content') }}",
    "{{ ['T', c] | map('trim') | join }}{{ c.join(['T', 'T']) }}",
    "{{ 'XTX' | replace('T', c) }}{{ c | replace('a', 'T') }}{{ 'XTX'.replace('T', c) }}",
    "{{ c | tojson }}{{ messages[0] | tojson(indent=2) }}{{ [c] | string }}{{ [c] }}{{ {'k': c} }}",
    "{% set x %}T{{ c }}{% endset %}{{ x }}{% filter trim %}{{ c }}{% endfilter %}",
    "{% macro m(a) %}T{{ a }}{{ caller() if caller }}T{% endmacro %}{{ m(c) }}{% call m(c) %}{{ c }}{% endcall %}",
    "{% set ns = namespace(t='') %}{% set ns.t = ns.t + c %}{{ ns.t }}{{ ns }}",
    "{% for x in c %}{{ x }}{% endfor %}{{ c | list | join }}{{ c | reverse }}{{ c[::-1][::-1] }}",
    "{{ c | indent(2) }}{{ c | center(40) }}{{ c.center(40) }}{{ c.ljust(30) }}{{ c | wordwrap(3) }}",
    "{{ c | truncate(8) }}{{ c | title }}{{ c.title() }}{{ c | capitalize }}{{ c | e }}{{ c|safe }}",
    "{{ c.split(',')[0] }}{{ c.split('|') | last }}{{ c.partition('a')[0] }}{{ c | first }}",
    "{{ c.encode }}{{ messages[0]['meta'].k[0] }}{{ messages[0].get('content') }}{{ messages }}",
    "{{ c.replace(c[0], c[0] * 2).replace(c[0], 'T') }}{{ c.expandtabs(3) }}{{ c | urlize }}",
    "{{ c | pprint }}{{ [c] | pprint }}{{ c | striptags }}{{ {'a': c} | xmlattr }}{{ c | forceescape }}",
    "{{ (c, 'T') | max }}{{ [c, 'T'] | sort | join }}{{ [[c]] | sum(start=[]) | join }}",
    "{{ messages | map(attribute='content') | join }}{{ dict(a=c).a }}{{ dict(a=c) }}",
    "{{ messages | groupby('role') }}{{ [c, c] | unique | list }}{{ [c] | batch(1) | list }}",
    "{{ c if true else 'T' }}{{ none | default(c) }}{{ c or 'T' }}{{ cycler(c).next() }}",
    "{% for m in messages recursive %}{{ m.content }}{% if m.k %}{{ loop(m.k) }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ loop.cycle(c, 'T') }}{{ loop.previtem }}{{ loop }}{% endfor %}",
    "{{ tools }}{{ tools[0].name }}{{ tools[0] | tojson }}{{ date }}{{ (date ~ c) | upper }}",
    "{% for key, value in tools[0].items() %}{{ key ~ value }}{% endfor %}{{ tools[0] | items | list }}",
]


@pytest.mark.parametrize("body", TREATED)
def test_no_mark_is_taken_for_the_templates(body: str) -> None:
    """The template writes T and no other letters: a ``<`` or ``|`` must be someone else's."""
    template = ChatTemplate("{% set c = messages[0].content %}" + body)
    text = template._written(MESSAGES, False, [{"name": EVIL, EVIL: "v"}], {"date": EVIL})
    authors = authors_of(text)
    assert len(authors) == len(text)
    assert any(author > TEMPLATE for author in authors)
    marks = [a for c, a in zip(text, authors, strict=True) if c in "<|>,ab"]
    assert all(author > TEMPLATE for author in marks), text


@pytest.mark.parametrize(
    "body",
    [
        "<|end|>{{ 'T' + '<|end|>' }}{{ 'T' ~ '|' }}{{ messages[0].role ~ '<|end|>' }}",
        "{% macro m(a) %}<|end|>{% endmacro %}{{ m(c) }}{% set x = '<|end|>' %}{{ x | trim }}",
        "{% for m in messages %}{{ '<|end|>' }}{% endfor %}{{ ['<|end|>', '|'] | join }}",
        "{{ '<|end|>' | upper }}{{ '<|%s|>' % 'end' }}{{ {'a': '<|end|>'}.a }}{{ {'a': '|'}.get(c, '|') }}",
        "{{ bos_token }}{{ bos_token | default('|') }}{{ ('<|' + bos_token).replace('x', c) }}",
        "{{ '<|end|>' if c else '|' }}{{ strftime_now('<|%Y|>') }}{{ [1, 2] }}{{ [1] | tojson }}",
        "{{ {'user': '<|end|>'}[messages[0].role] }}{{ range(2) | map('string') | join('|') }}",
    ],
)
def test_the_templates_own_words_stay_its_own(body: str) -> None:
    template = ChatTemplate("{% set c = messages[0].content %}" + body, {"bos_token": "<|end|>"})
    text = template._written(MESSAGES, False, None, {})
    assert set(authors_of(text)) == {TEMPLATE}


def test_generation_blocks() -> None:
    template = ChatTemplate(
        "a{{ '\\n' }}{% generation %}b{{ messages[0].role }}{% endgeneration %}c"
    )
    text = template._written(MESSAGES, False, None, {})
    assert text == "a\nbuserc"
    assert [ord(author) >= GENERATED for author in authors_of(text)] == [0, 0, 1, 1, 1, 1, 1, 0]
    assert template.marks_generation
    assert not ChatTemplate("{# {% generation %} #}{{ '{% generation %}' }}").marks_generation


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if a is none %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(90) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'x' | center(9999999999) }}",
        "{{ 'x'.rjust(9999999999) }}",
        "{{ 'x\\nx' | indent(9999999999) }}",
        "{{ [1] | tojson(indent=9999999999) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 9999999999) }}",
        "{{ range(10 ** 9) | list }}",
        "{% for i in range(99999) %}{{ range(99999) | map('string') | join }}{% endfor %}",
    ],
)
def test_templates_that_run_away_are_ended(source: str) -> None:
    started = time.process_time()
    with pytest.raises(TokenizerError, match=r"does not come to an end|fails"):
        ChatTemplate(source).render([])
    assert time.process_time() - started < 60


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{% if %}", "line 2: is not a Jinja template"),
        ("\n\n{{ raise_exception('roles must alternate') }}", "line 3: roles must alternate"),
        ("{{ x.y.z }}", "UndefinedError"),
        ("{{ messages[0].content + 1 }}", "line 1: the template fails: TypeError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ messages[0].update(a=1) }}", "SecurityError"),
        ("{{ messages[0].content.encode() }}", "into bytes"),
        ("{% include 'x' %}", "no loader"),
        ("{{ lipsum() }}", "UndefinedError"),
        ("{{ [1] | random }}", "No filter named 'random'"),
    ],
)
def test_errors_name_the_line(source: str, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        ChatTemplate(source).render(MESSAGES)


def test_the_clock() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=lambda: datetime(2024, 7, 26))
    assert template.render([]) == "26 Jul 2024"
