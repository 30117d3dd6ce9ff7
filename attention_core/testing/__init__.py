"""The kit for authors of scorers: checks whether a scorer keeps the contract.

>>> import attention_core as ac
>>> from attention_core.testing import check_scorer
>>> print(check_scorer(ac.make_scorer("scaled_dot")))  # doctest: +ELLIPSIS
scorer 'scaled_dot' (attention-core ...) with query_dim=4, key_dim=4
  passed   shape           scores have shape (..., L, S), also for one query or one key
  ...
  passed   config          a config makes it again, as it is and after its arrays were replaced
<BLANKLINE>
... passed

`check_scorer` and `check_plugin` raise an error with the report if a check fails; `check_gradients`
checks gradients only. `scorer_checks` and `plugin_checks` yield single checks, and
`parametrize_scorers` makes a test of each. On the command line, use
``attention-core check NAME`` or ``attention-core check MODULE``.
"""

from attention_core.testing.kit import check_gradients, check_scorer, scorer_checks
from attention_core.testing.parametrize import parametrize_scorers
from attention_core.testing.plugin import check_plugin, plugin_checks
from attention_core.testing.report import (
    Check,
    CheckError,
    Outcome,
    Report,
    Status,
    run_checks,
)

__all__ = [
    "Check",
    "CheckError",
    "Outcome",
    "Report",
    "Status",
    "check_gradients",
    "check_plugin",
    "check_scorer",
    "parametrize_scorers",
    "plugin_checks",
    "run_checks",
    "scorer_checks",
]
