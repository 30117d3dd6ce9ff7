"""The conformance kit: checks that a scorer, a normalizer or a bias keeps its contract.

>>> import attention_core as ac
>>> from attention_core.testing import check_scorer
>>> print(check_scorer(ac.make_scorer("scaled_dot")))  # doctest: +ELLIPSIS
scorer 'scaled_dot' (attention-core ...) with query_dim=4, key_dim=4
  passed   shape           scores have shape (..., L, S), also for one query or one key
  ...
  passed   config          its config recreates it, also after its arrays were replaced
<BLANKLINE>
... passed

`check_scorer`, `check_normalizer`, `check_bias` and `check_plugin` raise an error with the report
if a check fails; `check_gradients` checks only the gradients of a scorer. `scorer_checks` and its
siblings yield single checks, and `parametrize_scorers` and its siblings make each a test. On the
command line, use ``attention-core check NAME`` or ``attention-core check MODULE``.
"""

from attention_core.testing.checks import (
    bias_checks,
    check_bias,
    check_gradients,
    check_normalizer,
    check_scorer,
    normalizer_checks,
    scorer_checks,
)
from attention_core.testing.parametrize import (
    parametrize_biases,
    parametrize_normalizers,
    parametrize_scorers,
)
from attention_core.testing.plugin import check_plugin, plugin_checks
from attention_core.testing.report import Check, CheckError, Outcome, Report, Status, run_checks

__all__ = [
    "Check",
    "CheckError",
    "Outcome",
    "Report",
    "Status",
    "bias_checks",
    "check_bias",
    "check_gradients",
    "check_normalizer",
    "check_plugin",
    "check_scorer",
    "normalizer_checks",
    "parametrize_biases",
    "parametrize_normalizers",
    "parametrize_scorers",
    "plugin_checks",
    "run_checks",
    "scorer_checks",
]
