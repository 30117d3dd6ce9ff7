"""Types for annotations: importable without SciPy, and valid for type checkers."""

import runpy
import typing
from pathlib import Path

import pytest

import attention_core as ac

TYPES = Path(__file__).with_name("assert_types.py")


def test_code_of_the_type_checker_also_runs():
    assert "result" in runpy.run_path(str(TYPES))


@pytest.mark.parametrize("call", [ac.attend, ac.Attention.__call__, ac.MultiHeadAttention.__call__])
def test_annotations_resolve_at_run_time(call):
    hints = typing.get_type_hints(call)
    assert {"query", "mask", "bias", "return"} <= hints.keys()


def test_every_type_is_one_that_annotations_can_use():
    for name in ac.typing.__all__:
        assert typing.Optional[getattr(ac.typing, name)] is not None  # noqa: UP045 - at run time
