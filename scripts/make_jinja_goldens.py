#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders our test templates with Python's jinja2, set up as transformers does for chat templates.

Writes testdata/templates/expressions.json (small templates with what they give) and, for every testdata/templates/NAME.jinja and CASE.json,
NAME.CASE.txt or NAME.CASE.error.txt. Needs jinja2 3.1. Usage: scripts/make_jinja_goldens.py
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "templates"

CONTEXT = {
    "user": {"name": "Ann", "tags": ["b", "A", "c"], "age": 30, "items": "own", "é": 1},
    "users": [
        {"name": "Bob", "age": 25, "city": {"zip": 2}, "admin": True},
        {"name": "ann", "age": 30, "city": {"zip": 1}},
        {"name": "Cid", "age": 25, "city": {"zip": 3}, "admin": False},
    ],
    "text": "Hello, wörld! 你好",
    "html": "<a href=\"x\">'&'</a>",
    "padded": " \t\n x y \u00a0\u3000",
    "lines": "one\n\ntwo\r\nthree",
    "numbers": [3, 1, 2.5, -4, 0],
    "empty": [],
    "nothing": None,
    "yes": True,
    "no": False,
    "seven": 7,
    "third": 0.333,
    "big": 1e22,
    "nested": {"a": [1, {"b": None, "c": [True, 1.5, "q'\"\n\\"]}], "z": {}, "y": []},
    "sigma": "ΟΔΥΣΣΕΥΣ ΣΑΣ straße ﬁn",
    "control": "\u0000\u001f\u007f\u0085\u200b😀",
}

TEMPLATES = r"""
{{ text }}
{{ text[0] }}{{ text[-1] }}{{ text[7:12] }}|{{ text[::-1] }}|{{ text[-2:] }}|{{ text[:5] }}|{{ text[::3] }}|{{ text[99:] }}|{{ text[5:1:-2] }}
{{ text[99] is defined }} {{ text['length'] is defined }} {{ text[0:0] }}
{{ text | length }} {{ padded | length }} {{ users | length }} {{ user | length }} {{ empty | count }}
{{ padded | trim }}|{{ padded.strip() }}|{{ padded.lstrip() }}|{{ padded.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba' | trim('ab') }}|{{ 'abcba'.lstrip('ab') }}
{{ sigma.lower() }}|{{ sigma | upper }}|{{ sigma.title() }}|{{ sigma | title }}|{{ sigma | capitalize }}|{{ sigma.capitalize() }}|{{ sigma.swapcase() }}
{{ "it's a (big) [test] {of} <it> x-y a_b" | title }}|{{ "it's a (big) [test] x-y".title() }}
{{ '' | title }}{{ '' | capitalize }}{{ ''.title() }}|{{ 'ÀÉ' | lower }}{{ 'àé' | upper }}
{{ text.split() }} {{ text.split(',') }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,,c'.split(',', 1) }} {{ 'a,b,,c'.rsplit(',', 1) }} {{ ''.split(',') }} {{ ''.split() }}
{{ ' a  b c '.split() }} {{ ' a  b c '.split(' ') }} {{ ' a  b c '.split(none, 1) }} {{ ' a  b c '.rsplit(none, 1) }} {{ ' a  b c '.rsplit() }} {{ ' a b '.split(maxsplit=0) }} {{ ' a b '.rsplit(none, 0) }}
{{ 'a--b--c'.rsplit('--', 1) }} {{ 'a--b--c'.rsplit('--') }} {{ 'a--b--c'.rsplit('--', 9) }} {{ 'aXbXc'.partition('X') }} {{ 'aXbXc'.rpartition('X') }} {{ 'abc'.partition('X') }} {{ 'abc'.rpartition('X') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\n'.splitlines() }} {{ ''.splitlines() }} {{ 'a\x0bb\x85c\u2028d'.splitlines() }}
{{ text.startswith('Hell') }} {{ text.endswith('好') }} {{ text.startswith(('x', 'H')) }} {{ text.startswith('ello', 1) }} {{ text.endswith('Hello', 0, 5) }} {{ text.startswith('') }} {{ text.startswith('', 99) }}
{{ text.find('ö') }} {{ text.find('zzz') }} {{ text.rfind('l') }} {{ text.index('w') }} {{ text.find('l', 4) }} {{ text.find('', 3) }} {{ text.count('l') }} {{ text.count('') }} {{ 'aaaa'.count('aa') }} {{ text.find('l', -4) }}
{{ text.index('zzz') }}
{{ text.replace('l', 'L') }} {{ text.replace('l', 'L', 1) }} {{ text | replace('l', 'L', 2) }} {{ 'abc'.replace('', '-') }} {{ 'abc'.replace('', '-', 2) }} {{ 123 | replace(2, 'x') }}
{{ 'a1'.isalnum() }} {{ 'a'.isalpha() }} {{ '1²'.isdigit() }} {{ '1²'.isdecimal() }} {{ '½'.isnumeric() }} {{ ''.isdigit() }} {{ ' \n'.isspace() }} {{ 'Ab'.isupper() }} {{ 'AB1'.isupper() }} {{ 'ab1'.islower() }} {{ 'Ab Cd'.istitle() }} {{ 'ab'.isascii() }} {{ 'ä'.isascii() }}
{{ 'x'.center(5) }}| {{ 'ab'.center(5, '*') }} {{ 'abc'.center(4, '-') }} {{ 'x'.ljust(3, '.') }} {{ 'x'.rjust(3) }} {{ '-42'.zfill(6) }} {{ '42'.zfill(5) }} {{ 'ab' | center(7) }}|
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'x'.removesuffix('') }}
{{ ', '.join(user.tags) }} {{ user.tags | join }} {{ users | join(', ', attribute='name') }} {{ [1, none, 2.5, true] | join('|') }} {{ 'abc' | join('-') }} {{ {'a': 1, 'b': 2} | join(',') }}
{{ ', '.join([1]) }}
{{ html | e }} {{ html | escape }} {{ html | safe }}
{{ lines | indent }}|{{ lines | indent(2, true) }}|{{ lines | indent(2, blank=true) }}|{{ lines | indent('> ', first=true) }}|{{ 'a\n' | indent(1) }}|{{ '' | indent }}
{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }} {{ 'foo bar baz qux' | truncate(11) }} {{ 'foo bar baz qux' | truncate(11, false, '...', 0) }} {{ 'foo bar' | truncate }}
{{ 'a b  c_d e-f é1' | wordcount }}
{{ 1 + 2 }} {{ 7 - 10 }} {{ 3 * 4 }} {{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 0.5 }}
{{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789.125 }} {{ 1e-5 }} {{ 0.0001 }} {{ big }} {{ third }} {{ -0.0 }} {{ 1e300 * 1e10 }} {{ 5e-324 }} {{ 1.5e-7 }} {{ 100000.0 * 100000 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1_000 + 0x1F + 0b101 + 0o17 }} {{ 1_0.5 }} {{ 1e3 }} {{ 0 }} {{ 00 }}
{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ -3 | abs }} {{ (-3) | abs }} {{ - seven }} {{ + seven }} {{ 2 + 3 * 4 }} {{ (2 + 3) * 4 }} {{ 10 - 2 - 3 }} {{ 100 / 10 / 2 }}
{{ 'a' + 'b' }} {{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'ab' * -1 }}|{{ [1, 2] * 2 }} {{ [1] + [2] }} {{ (1,) + (2, 3) }}
{{ 'a' + 1 }}
{{ 1 ~ 2 + 3 }}
{{ range(2) + [1] }}
{{ users | groupby('admin', default='?') }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ 'a' + missing }}
{{ missing + 'a' }}
{{ missing ~ 'a' }}|{{ missing }}|{{ missing | trim }}|{{ missing | upper }}|{{ missing | length }}|{{ missing | list }}|{{ missing | join }}|{{ missing | string }}
{{ missing.attribute }}
{{ missing['x'] }}
{{ missing() }}
{{ user.missing }}|{{ user['missing'] }}|{{ user.missing is defined }}|{{ user.missing | default('d') }}|{{ nothing.x is defined }}|{{ nothing | default('d') }}|{{ nothing | default('d', true) }}|{{ '' | d('e', boolean=true) }}|{{ missing | d }}|
{{ user.missing.deeper }}
{{ nothing.x.y }}
{{ (7).x is defined }} {{ text.nope is defined }} {{ users.nope is defined }} {{ users[99] is defined }} {{ users['0'] is defined }}
{{ none }} {{ None }} {{ true }} {{ True }} {{ false }} {{ False }} {{ nothing }} {{ yes }} {{ no }} {{ [none, true, false] }} {{ (1,) }} {{ () }} {{ (1, 2) }} {{ [] }} {{ {} }} {{ 1, 2 }}
{{ nested }} {{ control }} {{ [control] }} {{ ['a\'b', 'a"b', 'a\'"b', 'é\t\r\\'] }}
{{ nested | tojson }} {{ control | tojson }} {{ nested | tojson(indent=2) }} {{ empty | tojson(indent=4) }} {{ [[], {}, [1]] | tojson(indent=1) }}
{{ nested | tojson(ensure_ascii=true) }} {{ text | tojson(ensure_ascii=true) }} {{ control | tojson(true) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ {'b': [1, 2]} | tojson(separators=(',', ':')) }} {{ [1] | tojson(indent='--') }} {{ [1, 2] | tojson(indent=0) }}
{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ (1, 2) | tojson }} {{ 1e22 | tojson }} {{ 'a/b' | tojson }} {{ none | tojson }}
{{ missing | tojson }}
{{ users | map(attribute='name') | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ [1, 2] == [1, 2] }} {{ [1] == (1,) }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ none == none }} {{ missing == missing }} {{ missing == none }} {{ 'a' != 'b' }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 < 2 > 1 }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ [1, 2] < [1, 3] }} {{ 2 >= 2.0 }} {{ 1 == 1 == 1 }} {{ 'é' > 'z' }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ missing < 1 }}
{{ 'a' in 'abc' }} {{ 'a' not in 'abc' }} {{ 1 in [1, 2] }} {{ 'name' in user }} {{ 'x' in user }} {{ '' in 'abc' }} {{ 'a' in missing }} {{ 1.0 in [1] }} {{ 'b' in user.tags }} {{ not 1 in [1] }} {{ (1, 2) in [(1, 2)] }} {{ 2 in range(3) }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ not true }} {{ not '' }} {{ 1 and 2 }} {{ 0 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ true or missing.x }} {{ not true and false or true }} {{ [] or {} or 'z' }} {{ not 0 == 1 }}
{{ 'a' if yes }}|{{ 'a' if no }}|{{ 'a' if no else 'b' }}|{{ 'a' if no else 'b' if no else 'c' }}|{{ ('x' if no) is defined }}
{{ 7 is odd }} {{ 8 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'a' is string }} {{ 1 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ none is none }} {{ user is mapping }} {{ users is mapping }}
{{ users is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ user is iterable }} {{ users is sequence }} {{ user is sequence }} {{ 'a' is sequence }} {{ 1 is sequence }} {{ none is sequence }} {{ missing is iterable }} {{ (users | map(attribute='x')) is sequence }} {{ range(2) is sequence }} {{ user.items() is sequence }}
{{ 1 is eq 1 }} {{ 1 is equalto 2 }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 1 is le 1 }} {{ 2 is gt 1 }} {{ 2 is ge(3) }} {{ 1 is in [1, 2] }} {{ 1 is sameas 1 }} {{ true is sameas true }} {{ 1 is sameas true }} {{ 'a' is lower }} {{ 'A' is upper }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }}
{{ missing is defined }} {{ missing is undefined }} {{ missing is not defined }} {{ nothing is not none }} {{ missing is none }} {{ range is callable }} {{ user is callable }} {{ user.get is callable }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ 'a' is escaped }}
{{ 'x' is nope }}
{{ 'x' | nope }}
{{ nope(1) }}
{{ users | map(attribute='name') | list }} {{ users | map(attribute='city.zip') | list }} {{ users | map(attribute='admin', default='-') | list }} {{ users | map('length') | list }} {{ user.tags | map('upper') | join(',') }} {{ ['1', '2'] | map('int') | sum }} {{ user.tags | map('replace', 'A', 'x') | list }}
{{ users | selectattr('admin') | map(attribute='name') | list }} {{ users | selectattr('age', 'eq', 25) | map(attribute='name') | list }} {{ users | rejectattr('age', 'equalto', 25) | map(attribute='name') | list }} {{ users | selectattr('admin', 'defined') | list | length }} {{ users | rejectattr('admin') | list | length }} {{ users | selectattr('age', '>', 25) | list | length }} {{ users | selectattr('city.zip', 'in', [1, 2]) | map(attribute='name') | join(' ') }}
{{ numbers | select('odd') | list }}
{{ [1, 2, 3, 4] | select('odd') | list }} {{ [1, 2, 3, 4] | reject('divisibleby', 2) | list }} {{ [0, 1, '', 'a', none] | select | list }} {{ [0, 1, '', 'a', none] | reject | list }} {{ ['a', 'b'] | reject('equalto', 'a') | list }} {{ [1, none, 2] | reject('none') | list }} {{ ['a', 1] | select('string') | first }}
{{ numbers | sort }} {{ numbers | sort(reverse=true) }} {{ user.tags | sort }} {{ user.tags | sort(case_sensitive=true) }} {{ users | sort(attribute='name') | map(attribute='name') | list }} {{ users | sort(attribute='age,name') | map(attribute='name') | list }} {{ user.tags | sort(true) }} {{ {'b': 1, 'a': 2} | sort }} {{ 'cab' | sort }}
{{ ['a', 1] | sort }}
{{ {'b': 1, 'A': 3, 'c': 2} | dictsort }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(true) }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(by='value') }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(false, 'value', true) }}
{{ ['a', 'A', 'b', 'a'] | unique | list }} {{ ['a', 'A', 'b', 'a'] | unique(true) | list }} {{ users | unique(attribute='age') | map(attribute='name') | list }} {{ [1, 1.0, true, 2] | unique | list }}
{{ numbers | min }} {{ numbers | max }} {{ users | max(attribute='age') | tojson }} {{ user.tags | min }} {{ empty | min }}| {{ numbers | sum }} {{ users | sum(attribute='age') }} {{ users | sum('age', 5) }} {{ [[1], [2]] | sum(start=[]) }}
{{ user.tags | first }} {{ user.tags | last }} {{ empty | first }}|{{ empty | last }}|{{ 'abc' | first }}{{ 'abc' | last }} {{ user | first }} {{ user | last }} {{ [1, 2, 3] | reverse | list }} {{ 'abc' | reverse }} {{ missing | first }}|
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3, 4, 5] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }} {{ [1, 2, 3, 4, 5] | slice(3, 'x') | list }}
{{ users | groupby('age') | map('first') | list }} {% for age, group in users | groupby('age') %}{{ age }}: {{ group | map(attribute='name') | join(',') }};{% endfor %} {{ users | groupby('admin', default=true) | length }}
{{ '42' | int }} {{ '4.7' | int }} {{ 'x' | int }} {{ 'x' | int(-1) }} {{ '0x1F' | int(base=16) }} {{ ' 12 ' | int }} {{ '1_000' | int }} {{ 4.99 | int }} {{ -4.99 | int }} {{ none | int }} {{ true | int }} {{ '101' | int(0, 2) }} {{ '1e3' | int }} {{ '-5' | int }} {{ '+5' | int }}
{{ '1.5' | float }} {{ 'x' | float }} {{ '1e3' | float }} {{ 7 | float }} {{ 'inf' | float }} {{ ' -2.50 ' | float }} {{ none | float(1.5) }}
{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ 2.9 | round(method='floor') }} {{ 1234.5678 | round(2) }} {{ 5 | round }} {{ 1234 | round(-2) }} {{ 0.05 | round(1) }}
{{ 'abc' | list }} {{ user | list }} {{ (1, 2) | list }} {{ range(3) | list }} {{ range(1, 10, 3) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }} {{ range(3) }} {{ range(10)[2] }} {{ range(10)[2:4] | list }} {{ range(3) | length }}
{{ user.keys() }} {{ user.values() | list }} {{ {'a': 1}.items() }} {{ {'a': 1} | items | list }} {{ user['items'] }} {{ user.get('name') }} {{ user.get('x') }} {{ user.get('x', 'y') }} {{ {'a': 1}.copy() }} {{ missing | items | list }} {{ user.items() | length }}
{{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }} {{ (1, 2).count(2) }} {{ [1, 2].copy() }}
{{ [1].append(2) }}
{{ user.update({'a': 1}) }}
{{ user.pop('name') }}
{{ user.__class__ }}
{{ dict(a=1, b='x') }} {{ dict({'a': 1}, b=2) }} {{ dict([('a', 1), ('b', 2)]) }} {{ {'a': 1, 'a': 2} }} {{ {1: 'x', '1': 'y'} }} {{ {'a': {'b': 1}}.a.b }} {{ {'a': 1}['a'] }}
{{ {[1]: 2} }}
{{ '%s and %d, %5.2f|%-5s|%05d|%x|%%' % ('a', 7, 3.14159, 'b', 42, 255) }} {{ '%s' % 'x' }} {{ '%(a)s-%(b)02d' % {'a': 1, 'b': 2} }} {{ '%r' % 'x' }} {{ '%s' % [1, 2] }} {{ '%+d % d %e %g' % (1, 2, 12345.678, 0.0001) }} {{ '%.2s|%5s|%*d' % ('abc', 'x', 4, 2) }} {{ 'x' % () }} {{ '%d' % 3.7 }} {{ '%c' % 'z' }}
{{ '%s %s' | format('a', 1) }} {{ '%(x)s' | format(x=2) }}
{{ '%s' % () }}
{{ 'x' % 1 }}
{{ '%d' % 'x' }}
{{ '{} {}'.format('a', 1) }} {{ '{1} {0} {x}'.format('a', 'b', x=3) }} {{ '{0[k]} {0.name}'.format({'k': 1, 'name': 2}) if false else '' }} {{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }} {{ '{:05d} {:.2f} {:,} {:x} {:+d} {:%}'.format(42, 3.14159, 1234567, 255, 5, 0.25) }} {{ '{!r} {{}}'.format('x') }} {{ '{:5}|{:5}|'.format(1, 'a') }} {{ '{}'.format(1.0) }} {{ '{}'.format(none) }} {{ '{:e} {:g} {:.3}'.format(1234.5, 0.00001, 2.71828) }}
{{ '{}'.format() }}
{{ '{x}'.format(y=1) }}
{% set x = 1 %}{{ x }}{% set x, y = 1, 2 %}{{ x }}{{ y }}{% set (a, (b, c)) = (1, (2, 3)) %}{{ a }}{{ b }}{{ c }}{% set t = 1, 2 %}{{ t }}{% set u = (1,) %}{{ u }}
{% set x, y = [1, 2, 3] %}
{% set x %}a{{ 1 }}b{% endset %}{{ x }}|{{ x | length }}{% set y | upper | replace('B', 'c') %}abc{% endset %}{{ y }}
{% set ns = namespace(a=1, b=[]) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b }} {% set ns.c = 5 %}{{ ns.c }} {{ ns.d is defined }} {{ ns['a'] }} {% set n2 = namespace({'q': 1}) %}{{ n2.q }}
{% set x = {} %}{% set x.y = 1 %}
{% set x = 0 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}
{% for i in [1] %}{% set y = 1 %}{% endfor %}{{ y is defined }} {% if true %}{% set z = 1 %}{% endif %}{{ z }} {% if false %}{% set w = 1 %}{% endif %}{{ w is defined }}
{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}{% if missing %}x{% else %}y{% endif %}
{% for u in users %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem.name if loop.previtem is defined else '-' }}{{ loop.nextitem.name if not loop.last else '-' }}{{ loop.cycle('a', 'b') }}{{ loop.depth }} {% endfor %}
{% for i in empty %}x{% else %}none{% endfor %} {% for i in missing %}x{% else %}none{% endfor %} {% for i in [1, 2, 3] if i > 5 %}x{% else %}none{% endfor %}
{% for i in range(6) if i is odd %}{{ i }}:{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}
{% for k, v in user.items() %}{{ k }}={{ v }};{% endfor %} {% for k in user %}{{ k }},{% endfor %} {% for c in 'añ' %}{{ c }}.{% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %} {% for x in 1, 2 %}{{ x }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %} {% for i in [1, 2] %}{% for j in [1, 2, 3] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% for i in [1, 2, 3] %}{% for j in [1] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %} {% for item in [{'n': 1, 'c': [{'n': 2, 'c': []}]}] recursive %}{{ item.n }}({{ loop(item.c) }}{{ loop.depth }}){% endfor %}
{% set ns = namespace(stop=false) %}{% for i in [1, 2, 3, 4] if not ns.stop %}{{ i }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}
{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 5) }} {{ f(b=3, a=9) }} {{ f(*[1, 2, 3]) }} {{ f(**{'a': 4}) }} {{ f() }} {{ f.name }} {{ f(1) | length }} {{ f is defined }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}
{% macro f(a) %}{{ a.x }}{% endmacro %}{{ f() }}
{% macro f() %}{{ varargs }} {{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% set g = 1 %}{% macro f() %}{{ g }}{% set g = 5 %}{{ g }}{% endmacro %}{{ f() }}{% set g = 2 %}{{ f() }}{{ g }}
{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box('x') %}in{{ text[0] }}{% endcall %} {% macro each(l) %}{% for i in l %}{{ caller(i, i * 2) }}{% endfor %}{% endmacro %}{% call(a, b=9) each([1, 2]) %}{{ a }}-{{ b }};{% endcall %}
{% filter upper | replace('A', 'x') %}abc{{ text }}{% endfilter %} {% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }} {% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% generation %}a{% set gg = 1 %}{{ gg }}{% endgeneration %}{{ gg is defined }}
{% raw %}{{ x }}{% if %}{% endraw %}|{%- raw -%}  {{ y }}  {%- endraw -%}  |
{# comment #}a{#- b -#} c {# {{ x }} #}{##}d
a {{- 'b' -}} c {{ 'd' }} e
  {% if true %}\n  x\n  {% endif %}\ny
a\n  {%- if true -%}\n  x\n  {%- endif -%}\ny
a\n  {%+ if true +%}\n  x\n  {%+ endif %}\ny
  {# c #}\nx\n  {# c +#}\ny{# c -#}\n\n z
 x {% if true %} y {% endif %} z \n\n
{{ 'a' }}\n{{ 'b' }}\n\n{% set x = 1 %}\n\n{{ x }}\n
\t {% set a = 1 %}{% set b = 2 %} {{ a }}\n \t{% for i in [1, 2] %}\n\t{{ i }}\n\t{% endfor %}\nend
{{ "a\tb\\n\x41\u00e9\U0001F600\101\q\'" }}{{ 'a' 'b' "c" }}{{ '' }}{{ "\\" }}
{{ "line
break" }}
{{ {'a': [1, 2, {'b': 3}]}['a'][2].b }} {{ [[1, 2], [3]][0][1] }} {{ users[0].city.zip }} {{ users[-1]['name'] }} {{ users.0.name }} {{ (users | first).name }} {{ users[1:] | length }} {{ users[::-1][0].name }} {{ [1, 2, 3][:-1] }} {{ (1, 2, 3)[1:] }} {{ [1, 2, 3, 4][-3:-1] }} {{ [1, 2, 3][::-2] }} {{ [1, 2, 3][5:] }}
{{ [1, 2][::0] }}
{{ [1, 2]['a':] }}
{{ 5[0] is defined }} {{ none[0] is defined }} {{ user[0] is defined }}
{{ 5[1:] }}
{{ text.upper().lower().title() }} {{ text.split(' ')[0].strip(',!') }} {{ (text ~ 'x').endswith('x') }} {{ ('a' if true else 'b').upper() }} {{ 'a,b'.split(',') | map('upper') | join('+') }}
{{ 'x' | default('y') | upper ~ 'z' }} {{ 1 + 2 | string | length }} {{ -1 | abs }} {{ 'a' ~ 'b' | upper }} {{ not 'a' is string }} {{ 1 if true else 2 | string }} {{ [1, 2] | length > 1 }} {{ 'a' in ['a'] | list }} {{ 2 is divisibleby 2 and true }}
{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d %H:%M:%S') }}|{{ strftime_now('%A, %B %d %j %U %W %y %I %p %-d %-m %e %F %T %% %a') }}
{{ raise_exception('stop: ' + text) }}
{% if true %}
{% for x in y %}
{% endif %}
{% unknown %}
{{ 1 + }}
{{ (1 }}
{{ 'abc }}
{{ 1 | }}
{{ x is }}
{% set 1 = 2 %}
{% set true = 2 %}
{% macro f(a=1, b) %}{% endmacro %}
{{ f(a=1, 2) }}
{{ a b }}
{{ $ }}
{{ [1, 2 }}
{{ ] }}
{# open
{{ open
{% raw %} open
{% break %}
{{ '\x4' }}
{{ 012 }}
{{ user.é }} {{ 'e' 'f' }} {{ users|length }}{{users|length}} {{ ( 1 , 2 ) [ 0 ] }} {{ user . name }} {{user['name']}} {{ [1,2,][0] }} {{ {'a':1,}.a }} {{ dict(a=1,).a }}
{{ {'a': {'b': 1}}|tojson }}{{ {"x": {"y": {}}} }} {{ {}}}
{% set x = [] %}{% if x %}1{% endif %}{% if not x %}2{% endif %}{% if 0.0 %}3{% endif %}{% if '0' %}4{% endif %}{% if none %}5{% endif %}{% if {} %}6{% endif %}{% if users | map('string') %}7{% endif %}
{% set it = [1, 2, 3] | map('string') %}{{ it | list }}{{ it | list }} {% set ks = user.keys() %}{{ ks | list | length }}{{ ks | list | length }} {% set e = [1, 2, 3] | select('odd') %}{{ e | first }}{{ e | list }}
{{ users | map(attribute='name') | length }}
{{ (users | map(attribute='name'))[0] is defined }}
{{ user | attr('name') is defined }} {{ user | attr('get') is defined }} {{ 'x' | attr('upper')() if false else 1 }}
{{ [1, [2, [3]]] | string }} {{ 'é' | string }} {{ (1, 'a') | string | length }} {{ {'a': none} | string }}
{{ 'a\u0301b' | length }} {{ '😀x'[0] }} {{ '😀x'[1:] }} {{ '😀x' | reverse }} {{ '日本語'.find('語') }} {{ '日本語'.center(7, '・') }}
{{ [1, 2, 3] | map('multiply', 2) | list }}
{% for message in users %}{{ '<|' ~ message.name ~ '|>' }}{% if loop.last %}!{% else %}{{ ', ' }}{% endif %}{% endfor %}
{% set first, rest = users[0], users[1:] %}{{ first.name }} {{ rest | length }}
{% set a = b = 1 %}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }} {{ 2 ** 62 }} {{ 1 // 1.0 }} {{ 7 // 0.5 }} {{ true + true }} {{ 3 * true }} {{ 5 % 2.5 }} {{ 1e308 * 10 - 1e308 * 10 }}
""".strip("\n")


def environment():
    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

        def _pass(self, caller):
            return caller()

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = datetime.datetime(2025, 1, 15, 12, 0, 0).strftime
    return env


def templates():
    """One a line; a literal \\n in text outside of quotes is a newline; a line that is not complete goes on in the next."""
    lines = TEMPLATES.split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        if line == '{{ "line':
            i += 1
            line += "\n" + lines[i]
        if line.count('"') == 0 and line.count("'") == 0 or line.startswith(("  {", "a\\n", " x ", "\\t", "{{ 'a' }}\\n")):
            line = line.replace("\\n", "\n").replace("\\t", "\t")
        yield line
        i += 1


def expressions():
    cases = []
    for source in templates():
        case = {"template": source}
        try:
            case["text"] = environment().from_string(source).render(**CONTEXT)
            case["text"].encode()
        except Exception as error:  # whatever Python raises, we must refuse
            case["error"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    text = json.dumps({"context": CONTEXT, "cases": cases}, indent=1, ensure_ascii=False)
    (ROOT / "expressions.json").write_text(text + "\n", encoding="utf-8")
    print(len(cases), "expressions,", sum("error" in c for c in cases), "of them errors")


def conversations():
    tokens = json.loads((ROOT / "special_tokens.json").read_text(encoding="utf-8"))
    for path in ROOT.glob("*.txt"):
        path.unlink()
    for name, variables in tokens.items():
        source = (ROOT / f"{name}.jinja").read_text(encoding="utf-8")
        for case in sorted(ROOT.glob("*.json")):
            if case.stem in ("special_tokens", "expressions"):
                continue
            conversation = json.loads(case.read_text(encoding="utf-8"))
            try:
                text = environment().from_string(source).render(**variables, **conversation)
                (ROOT / f"{name}.{case.stem}.txt").write_bytes(text.encode())
            except Exception as error:
                if type(error) is jinja2.exceptions.TemplateError:
                    (ROOT / f"{name}.{case.stem}.error.txt").write_bytes(str(error).encode())
                else:
                    print(name, case.stem, "has no golden:", error)


if __name__ == "__main__":
    expressions()
    conversations()
