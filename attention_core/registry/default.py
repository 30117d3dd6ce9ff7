"""The default registry, and the functions that use it."""

from __future__ import annotations

from typing import Any

from attention_core.arguments import checked_arguments
from attention_core.components.bias import Bias
from attention_core.errors import OptionTypeError, shown
from attention_core.hookspecs import BiasSpec, NormalizerSpec, ScorerSpec
from attention_core.normalizing.normalizer import Normalizer
from attention_core.registry.infos import BiasInfo, NormalizerInfo, ScorerInfo
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.registry.loading import alone
from attention_core.registry.registry import Registry
from attention_core.scoring.scorer import Scorer

__all__ = [
    "biases",
    "default_registry",
    "make_bias",
    "make_normalizer",
    "make_scorer",
    "normalizers",
    "refresh",
    "register_bias",
    "register_normalizer",
    "register_scorer",
    "registry_or_default",
    "resolve",
    "scorers",
]

_default: Registry | None = None


def default_registry() -> Registry:
    """The registry that names in `attend`, `Attention` and configs refer to.

    It is built from the installed plugins when a name is first used.

    Raises
    ------
    PluginError
        If a plugin uses it while it is being built.
    """
    global _default
    if _default is None:
        with alone():
            if _default is None:
                _default = Registry.from_entry_points()
    return _default


def registry_or_default(registry: Registry | None) -> Registry:
    """The registry itself, or for None the default registry.

    Raises
    ------
    OptionTypeError
        For anything else.
    """
    if registry is not None and not isinstance(registry, Registry):
        raise OptionTypeError(
            f"registry must be an attention_core.Registry, or None for the installed plugins, "
            f"got {shown(registry)}"
        )
    return default_registry() if registry is None else registry


def resolve(component: Any, kind: Kind[Any] = SCORER) -> Any:
    """Resolve a name, a mapping or a component to a component of a kind."""
    if _default is not None and type(component) is str:
        ready = _default.names[kind].ready.get(component)
        if ready is not None:  # the fast path of the smallest calls
            return ready
    return default_registry().of(kind).resolve(component)


@checked_arguments
def make_bias(name: str, **parameters: Any) -> Bias:
    """Make an installed bias by name; parameters and errors are those of `make_scorer`.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.make_bias("relative", max_distance=8, heads=4).table.shape
    (4, 17)
    """
    return default_registry().of(BIAS).make(name, parameters)


@checked_arguments
def register_bias(spec: BiasSpec) -> None:
    """Add a bias to this process, as in a notebook; see `register_scorer`.

    Raises
    ------
    PluginError
        For a spec that is not valid, or a name that is not free.

    Examples
    --------
    >>> import attention_core as ac
    >>> alibi = "attention_core_standard.biases:make_alibi"
    >>> ac.register_bias(ac.BiasSpec(name="my_alibi", factory=alibi))
    """
    default_registry().register(spec)


def biases() -> tuple[BiasInfo, ...]:
    """List the installed and registered biases by name, without importing any of them.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.formula for info in ac.biases() if info.name == "alibi"]
    ['-slope |j - i|']
    """
    return default_registry().of(BIAS).claims.infos()


@checked_arguments
def make_normalizer(name: str, **parameters: Any) -> Normalizer:
    """Make an installed normalizer by name; parameters and errors are those of `make_scorer`.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.make_normalizer("entmax", alpha=1.5)
    Entmax()
    >>> ac.make_normalizer("softmax", sink=0.0).to_config()
    {'name': 'softmax', 'sink': 0.0}
    """
    return default_registry().of(NORMALIZER).make(name, parameters)


@checked_arguments
def register_normalizer(spec: NormalizerSpec) -> None:
    """Add a normalizer to this process, as in a notebook; see `register_scorer`.

    Raises
    ------
    PluginError
        For a spec that is not valid, or a name that is not free.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.register_normalizer(ac.NormalizerSpec(name="plus_one", factory=lambda: ac.Softmax(0.0)))
    >>> ac.make_normalizer("plus_one")
    Softmax(sink=0.0)
    """
    default_registry().register(spec)


def normalizers() -> tuple[NormalizerInfo, ...]:
    """List the installed and registered normalizers by name, without importing any of them.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.formula for info in ac.normalizers() if info.name == "sparsemax"]
    ['max(s - tau, 0)']
    """
    return default_registry().of(NORMALIZER).claims.infos()


def refresh() -> None:
    """Find packages that were installed since plugins were loaded, as in a notebook.

    Registered components stay. Imported modules are not imported again: restart after an upgrade.

    Warns
    -----
    PluginWarning
        For plugins that cannot be used, as when they are first loaded.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.refresh()
    """
    default_registry().refresh()


@checked_arguments
def make_scorer(name: str, **parameters: Any) -> Scorer:
    """Make an installed scorer by name, as `Registry.make`.

    Parameters
    ----------
    name
        A name, an alias, or a qualified name such as ``acme-attention/rbf``.
    **parameters
        Parameters of the scorer: its arrays, or dimensions and a seed for initial values.

    Returns
    -------
    Scorer

    Raises
    ------
    UnknownScorerError, AmbiguousScorerError
        For a name that no scorer has, or more than one.
    ScorerConfigError
        For parameters that the scorer does not accept.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.make_scorer("scaled_dot", scale=0.1).to_config()
    {'name': 'scaled_dot', 'scale': 0.1}
    >>> ac.make_scorer("additive", query_dim=4, key_dim=3, hidden_dim=8, rng=0).key_weight.shape
    (3, 8)
    """
    return default_registry().make(name, **parameters)


@checked_arguments
def register_scorer(spec: ScorerSpec) -> None:
    """Add a scorer to this process, as in a notebook.

    Registering its name again replaces it, so a cell can be run twice. Names and aliases of
    installed scorers cannot be replaced.

    Raises
    ------
    PluginError
        For a spec that is not valid, or a name that is not free.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> class Taxicab(ac.Scorer):
    ...     def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
    ...         return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)
    >>> ac.register_scorer(ac.ScorerSpec(name="taxicab", factory=Taxicab))
    >>> ac.make_scorer("taxicab").score(np.zeros((1, 2)), np.ones((1, 2)))
    array([[-2.]])
    """
    default_registry().register(spec)


def scorers() -> tuple[ScorerInfo, ...]:
    """List the installed and registered scorers by name, without importing any of them.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.formula for info in ac.scorers() if info.name == "scaled_dot"]
    ['q . k / sqrt(D)']
    """
    return default_registry().scorers()
