"""Wording: docstrings begin with a noun or a verb, and some phrases have better ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path
    for folder in ("attention_core", "plugins", "benchmarks", "docs/extensions")
    for path in (ROOT / folder).rglob("*.py")
)
TESTS = sorted(path for folder in ("tests", ".ci") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "plugins").rglob("*.md"),
    ]
    if "_build" not in path.parts
)
OPENERS = {"What", "Who", "Whose", "Where", "How", "Into"}

# a phrase, and its replacement
PHRASES = {
    r"mend(s|ed|ing)?": "fix",
    r"endings?": "extension or suffix",
    r"(made|make|makes|register|registered|registering) by hand": "directly",
    r"first values": "initial values",
    r"(?<!there)(?<!here) (is|are|was|were) no [a-z]\w*": "is not a",
    r"such a one": "the noun",
    r"so many": "this many, or n",
    r"(be|is|are) as many": "have the same length",
    r"(in|out)side of": "inside or outside",
    r"whatever else": "anything else",
    r"knows? no(?! names)": "does not support",
    r"in the place of": "in place of",
    r"held against": "compared with",
    r"equally many": "the same number of",
    r"must be left out": "must be omitted",
    r"left out, there is none": "none by default",
    r"imports no mathematics": "does not import the implementation",
    r"whoever": "users, readers or the caller",
    r"under examination": "under test",
    r"ma(k|d)es? (it |them )?again": "recreate",
    r"(held|holds) to": "checked for",
    r"none (is|are) offered": "none is defined",
    r"(is|are) told": "is reported",
    r"what comes in": "the inputs",
    r"brings? along": "has",
    r"nobody('s)?": "no caller, no other",
    r"if you like": "optional",
    r"(a |a complete )?strangers?('s)?": "a third party",
    r"\w*(amort|initial|normal|optim|summar|vector)is(e|es|ed|ing|ation)": "the spelling with z",
}
# gradients, but in the linear trend of the estimators
SLOPES = r"slopes"


def docstrings(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        body = getattr(node, "body", None)
        for each in body if isinstance(body, list) else ():
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                yield str(each.value.value)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def found(pattern, text):
    """The lines of a phrase; a phrase may be cut at the end of a line."""
    joined = pattern.replace(" ", r"\s+(?:#\s+)?")
    return [match[0] for match in re.finditer(rf"\b{joined}\b", text, re.IGNORECASE)]


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=name_of)
def test_docstrings_begin_with_a_noun_or_a_verb(path):
    firsts = [re.match(r"\W*(\w*)", text)[1] for text in docstrings(path)]
    assert not OPENERS & {*firsts}


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=name_of)
def test_phrases_that_have_better_ones(path):
    text = path.read_text("utf-8")
    assert {phrase: hits for phrase in PHRASES if (hits := found(phrase, text))} == {}
    if (
        path.suffix == ".py"
        and path.is_relative_to(ROOT / "attention_core")
        and "estimators" not in path.parts
    ):
        assert not found(SLOPES, text)


def test_the_tests_can_fail():
    assert found(r"so many", "of so\n    # many rows") == ["so\n    # many"]
    assert found(r"mend(s|ed|ing)?", "recommend amended") == []
    is_no = next(phrase for phrase in PHRASES if " no " in phrase)
    assert found(is_no, "It is no function, and there is no value.") == [" is no function"]
