"""The source of pair functions, rewritten so that constants have the dtype of the rows."""

import math
import textwrap

import numpy as np
import pytest

from attention_core.compiled.names import SourceError
from attention_core.compiled.typed import typed_functions

RATE, COUNT = 0.5, 3


def softened(x):
    return x / (1 + abs(x))


def rewritten(function, **options):
    found = typed_functions({"pair": function}, **options)
    return [each.text for each in found]


def test_constants_and_integers_meet_floats_in_their_dtype():
    def pair(q, k):
        total = 0
        for d in range(1, len(q), 2):
            total += 2 * abs(q[d] - k[d + 1]) ** 2 + d / 2
        return max(total, 0) if total > 1 else -1

    assert rewritten(pair) == [
        textwrap.dedent("""\
            def pair(q, k):
                total = FLOAT(0)
                for d in range(1, len(q), 2):
                    total += FLOAT(2) * abs(q[d] - k[d + 1]) ** 2 + FLOAT(d) / FLOAT(2)
                return max(total, FLOAT(0)) if total > FLOAT(1) else FLOAT(-1)""")
    ]


def test_counters_stay_integers():
    def pair(q, k, degree):
        step = 1
        last = len(q) // 2
        for _ in range(degree):
            step = step * 2
        return q[last - step] * step

    (text,) = rewritten(pair, integers=["degree"])
    assert "step = 1\n" in text
    assert "step = step * 2\n" in text
    assert "return q[last - step] * FLOAT(step)" in text


def test_names_of_the_module_become_what_they_are():
    def pair(q, k):
        return RATE * softened(np.tanh(q[0])) + math.exp(k[COUNT]) + np.sqrt(math.pi)

    helper, text = rewritten(pair)
    assert helper == (
        f"def softened_of_{__name__.replace('.', '_')}(x):\n    return x / (FLOAT(1) + abs(x))"
    )
    assert text.splitlines()[-1] == (
        f"    return FLOAT(0.5) * softened_of_{__name__.replace('.', '_')}(TANH(q[0])) "
        "+ EXP(k[3]) + "
        f"np.sqrt(FLOAT({math.pi!r}))"
    )


def test_tests_for_none_stay():
    def pair(q, k, gamma):
        return (1 / len(q) if gamma is None else gamma) * q[0]

    (text,) = rewritten(pair)
    assert "(FLOAT(1) / FLOAT(len(q)) if gamma is None else gamma) * q[0]" in text


def test_lines_of_the_text_know_their_lines_in_the_file():
    def pair(q, k):
        """Say something
        in lines of their own.
        """
        total = 0.0  # with a comment

        for d in range(len(q)):
            total += (
                q[d]
                * k[d]
            )  # fmt: skip
        return total

    (found,) = typed_functions({"pair": pair})
    first = pair.__code__.co_firstlineno
    assert [line - first for line in found.lines] == [0, 4, 6, 7, 11]


def test_errors_of_compilation_have_their_line():
    enclosing = 2.0
    listed = [1.0]

    def free(q, k):
        return enclosing * q[0]

    def other(q, k):
        return q[0] * textwrap

    def optional(q, k, scale=1.0):
        return q[0]

    def writing(q, k):
        k[0] = 0
        return q[0]

    def unknown(q, k):
        return missing(q[0])  # noqa: F821 - that is the point

    causes = {}
    for function in (free, other, optional, writing, unknown, lambda q, k: q[0], listed.append):
        with pytest.raises(SourceError) as caught:
            rewritten(function)
        line = caught.value.line
        if line is not None:
            line -= function.__code__.co_firstlineno
        causes[function.__name__] = (line, caught.value.cause)
    assert causes == {
        "free": (1, "'enclosing' belongs to an enclosing function"),
        "other": (1, "'textwrap' is a module; only numbers and functions may come from the module"),
        "optional": (0, "its arguments must be plain names without defaults"),
        "writing": (1, "it writes to 'k'; only gradients may be written to"),
        "unknown": (1, "name 'missing' is not defined"),
        "<lambda>": (0, "it is not a function written with def"),
        "append": (None, "its source is not in a file"),
    }
