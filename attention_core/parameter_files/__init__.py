"""Files of parameters: the arrays of a scorer or a layer, in ``.npz`` or ``.safetensors`` files.

A file that `save` writes names the scorer or the layer of its arrays. Other files of named arrays
can be read too. Nothing is pickled.
"""

from attention_core.files.array_files import write_arrays
from attention_core.files.saved_parameters import Parameters, read_arrays, read_parameters
from attention_core.parameter_files.loading import load_layer, load_scorer
from attention_core.parameter_files.saving import save as save_parameters

__all__ = [
    "Parameters",
    "load_layer",
    "load_scorer",
    "read_arrays",
    "read_parameters",
    "save_parameters",
    "write_arrays",
]
