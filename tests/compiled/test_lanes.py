"""Functions of two rows, rewritten to score a query with many keys in SIMD lanes."""

import textwrap

import numpy as np
import pytest

from attention_core.compiled.extrema import maximum
from attention_core.compiled.lanes import WIDTH, find_lanes
from attention_core.compiled.typed import typed_functions


def lanes_of(function, **options):
    return find_lanes(typed_functions({"pair": function}, **options)[-1])


def test_statements_about_the_key_become_loops_over_lanes():
    def pair(q, k, weight):
        size = len(k)
        total = 0.0
        for d in range(size):
            difference = q[d] - k[d]
            total += weight[d] * difference**2
        return -total / size

    found = lanes_of(pair)
    assert found.arrays == ("total",)
    assert found.function.text == textwrap.dedent("""\
        def pair_lanes(q, k, weight, OUT, total):
            size = len(k)
            for LANE in range(64):
                total[LANE] = FLOAT(0.0)
            for d in range(size):
                for LANE in range(64):
                    difference = q[d] - k[d, LANE]
                    total[LANE] += weight[d] * difference ** 2
            for LANE in range(64):
                OUT[LANE] = -total[LANE] / FLOAT(size)
            return""")


def absolute(q, k):
    total = 0.0
    for d in range(len(q)):
        total += abs(q[d] - k[d])
    return -total / len(q)


def branching(q, k, weight, is_even):
    if is_even:
        total = q[0] * k[0]
    else:
        scale = 2.0
        total = scale * k[0]
        for d in range(1, len(q)):
            hidden, other = q[d] + k[d], q[d] - k[d]
            total += weight[d] * np.maximum(hidden, 0.2 * other)
            if d % 2 == 1:
                total *= 0.5
                continue
            total -= 1.0
        return total
    return 3 * total if total > 1 else total


def swapping(q, k):
    before = k[0]
    after = k[1]
    for d in range(2, len(q)):
        before, after = after, before * q[d]
    return before + 2 * after


@pytest.mark.parametrize(
    ("pair", "arguments"),
    [
        (absolute, ()),
        (branching, (np.linspace(-1, 1, 5), True)),
        (branching, (np.linspace(-1, 1, 5), False)),
        (swapping, ()),
    ],
)
def test_each_lane_has_the_score_of_its_key(pair, arguments):
    rng = np.random.default_rng(0)
    query, keys = rng.normal(size=5), rng.normal(size=(WIDTH, 5))
    found = lanes_of(pair, integers=["is_even"])
    space = {"FLOAT": float, "MAXIMUM": maximum}
    exec(found.function.text, space)
    scores, *own = np.full((1 + len(found.arrays), WIDTH), np.nan)
    space["pair_lanes"](query, keys.T, *arguments, scores, *own)
    np.testing.assert_array_equal(scores, [pair(query, key, *arguments) for key in keys])


def test_lines_are_those_of_the_author():
    (typed,) = typed_functions({"pair": absolute})
    lanes = lanes_of(absolute).function
    first = absolute.__code__.co_firstlineno
    assert typed.lines == (first, first + 1, first + 2, first + 3, first + 4)
    assert lanes.lines == (
        first,
        *[first + 1] * 2,
        first + 2,
        *[first + 3] * 2,
        *[first + 4] * 3,
    )


def branch(q, k):
    total = 0.0
    if k[0] > 0:
        total += q[0]
    return total


def loop(q, k):
    total = 0.0
    while total < k[0]:
        total += q[0]
    return total


def whole_row(q, k):
    return np.dot(q, k)


def other_name(q, k):
    row = k
    return q[0] * row[0]


def data_dependent_index(q, k):
    return q[int(k[0])] * 1.0


def part(q, k):
    return q[0] * k[1:][0]


def counting(q, k):
    count = 0
    for d in range(len(q)):
        count += k[d] > q[d]
    return count / len(q)


def rescaled(q, k, scale):
    scale = scale * k[0]
    return scale * q[0]


def loop_variable(q, k):
    total = k[0]
    for total in range(2):
        total += q[0]
    return total


@pytest.mark.parametrize(
    "pair", [branch, loop, whole_row, other_name, part, counting, rescaled, loop_variable]
)
def test_other_functions_are_left_as_they_are(pair):
    assert lanes_of(pair) is None


def test_an_index_may_depend_on_the_key():
    assert lanes_of(data_dependent_index).arrays == ()
