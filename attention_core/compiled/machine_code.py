"""Machine code of loops that need neither Python nor numba, which LLVM loads in milliseconds.

The import of numba and the registration of what it knows take ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, byref, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

__all__ = ["host", "load", "machine_code", "vector_bytes"]

_NAME = "loop"
# Called to free the memory of an array that has no owner left; arrays over given memory have none.
_UNUSED = "NRT_MemInfo_call_dtor"
_RETURNED = {0, -2}  # numba's codes of functions that did not raise
_engines: list[Any] = []  # the owners of the loaded code


def host() -> str:
    """The processor that machine code is made for, and the library that makes it."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.llvm_version_info} {llvm.get_host_cpu_name()} {features}"


@cache
def vector_bytes() -> int:
    """The bytes of the processor's widest vectors: 64 with AVX-512, else at most 32."""
    import llvmlite.binding as llvm

    return 64 if llvm.get_host_cpu_features().get("avx512f", False) else 32


def machine_code(dispatcher: Any) -> bytes:
    """The code of a function that numba compiled for an address; empty if it needs numba to run."""
    import llvmlite.binding as llvm

    (overload,) = dispatcher.overloads.values()
    module = llvm.parse_assembly(dispatcher.inspect_llvm(overload.signature.args))
    symbols = [*module.functions, *module.global_variables]
    needed = {each.name for each in symbols if each.is_declaration}
    if not all(name == _UNUSED or name.startswith("llvm.") for name in needed):
        return b""
    if _UNUSED in needed:
        module.link_in(llvm.parse_assembly(f"define void @{_UNUSED}(ptr %0) {{ ret void }}"))
    module.get_function(overload.fndesc.llvm_func_name).name = _NAME
    code: bytes = _target().emit_object(module)
    return code


def load(code: bytes) -> Callable[[int], bool]:
    """The function with this code: it takes an address, releases the GIL, and says if it raised."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    kind = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_int64)
    function = kind(engine.get_function_address(_NAME))
    result, error = c_void_p(), c_void_p()
    places = byref(result), byref(error)
    _engines.append(engine)
    return lambda address: function(*places, address) not in _RETURNED


def _target() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if target.name.startswith("x86") else "default",  # as numba
        codemodel="jitdefault",
        jit=True,
    )
