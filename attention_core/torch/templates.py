"""Attentions by name, for compiled code, which holds no Python objects."""

from __future__ import annotations

import io
import pickle
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from weakref import WeakValueDictionary

from attention_core.errors import OptionError
from attention_core.libraries.cores import Core, parameters_of, with_parameters

__all__ = ["Template", "template_named", "template_of"]


@dataclass(frozen=True, eq=False)
class Template:
    """An attention whose parameters come with each call or are fixed."""

    name: str
    core: Core
    """A callable of arrays; the values of its parameters do not matter."""
    parameters: tuple[str, ...]
    """Names of the parameters that come with each call, in order."""
    arguments: Mapping[str, Any]
    """Arguments of every call that are not tensors, such as a mask that is a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by name."""
        return template_of, (self.core, self.arguments, not self.parameters)


_known: WeakValueDictionary[str, Template] = WeakValueDictionary()


def template_of(
    core: Core, arguments: Mapping[str, Any] | None = None, is_fixed: bool = False
) -> Template:
    """The template of an attention or a layer; with `is_fixed`, its parameters are fixed.

    Its name is a digest of everything except the values of parameters that come with calls, and is
    the same in every process. Layers of the same kind therefore share compiled code, and a name has
    one meaning.

    Examples
    --------
    >>> import attention_core as ac
    >>> scorers = [ac.make_scorer("general", query_dim=2, key_dim=2, rng=seed) for seed in (0, 1)]
    >>> first, second = (template_of(ac.Attention(scorer)) for scorer in scorers)
    >>> first is second, first is template_of(ac.Attention(scorers[0], is_causal=True))
    (True, False)
    """
    arguments = arguments or {}
    if not is_fixed:
        core = with_parameters(core, parameters_of(core))  # drops the seeds of initial values
    parameters = {} if is_fixed else parameters_of(core)
    name = _digest((core, arguments), parameters)
    return _known.setdefault(name, Template(name, core, tuple(parameters), arguments))


def template_named(name: str) -> Template:
    """The template with this name.

    Raises
    ------
    OptionError
        For a name from another process, as in an exported program.
    """
    found = _known.get(name)
    if found is None:
        raise OptionError(
            f"compiled code refers to attention {name!r}, which this process does not have: make "
            f"the module, or compile the function, in this process first"
        )
    return found


def _digest(content: object, parameters: Mapping[str, Any]) -> str:
    file = io.BytesIO()
    try:
        _WithoutValues(file, parameters).dump(content)
    except (pickle.PicklingError, AttributeError, TypeError):  # lambdas, objects with locks
        return uuid.uuid4().hex
    return sha256(file.getvalue()).hexdigest()[:32]


class _WithoutValues(pickle.Pickler):
    """Pickle parameters as their shapes and dtypes."""

    def __init__(self, file: io.BytesIO, parameters: Mapping[str, Any]) -> None:
        super().__init__(file, protocol=5)
        self._parameters = {id(array): array for array in parameters.values()}

    def persistent_id(self, obj: Any) -> Any:
        array = self._parameters.get(id(obj))
        return None if array is None else f"{array.dtype}{array.shape}"
