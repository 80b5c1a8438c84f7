"""Metal Shading Language from Python: libraries from source, their kernels as functions, kernels from a body.

Where there is no Apple GPU the kernels run on the software Metal: translated to C++ when a function is first asked
for, compiled by the system's C++ compiler (METALLIC_CXX, CXX, c++, g++, clang++), kept in METALLIC_CACHE_DIR by
content. With METALLIC_CHECK=1 they run under the checker, which raises CheckError for out-of-bounds accesses, races,
divergent barriers and the like, with the line of the source.

>>> import metallic as ml, numpy as np
>>> x = np.ones(4, np.float32)
>>> library = ml.metal.Library("kernel void inc(device float *x, uint i [[thread_position_in_grid]]) { x[i] += 1; }")
>>> library.function("inc")(x, grid=4, threadgroup=4)
>>> x
array([2., 2., 2., 2.], dtype=float32)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import _metal_types as types
from ._core import Tensor, _MetalHazards, _MetalLibrary
from ._errors import CheckError, DeviceError

ORDERS = ("forward", "reverse", "shuffle")
_TRUE = ("1", "true", "on", "yes")


@dataclasses.dataclass
class _Settings:
    """How kernels are run; check None: as METALLIC_CHECK says; notes: where findings go that raise nothing."""

    check: bool | None = None
    order: str = "forward"
    seed: int = 0
    strict: bool = False
    notes: list[dict] | None = None

    def checked(self) -> bool:
        return os.environ.get("METALLIC_CHECK", "").lower() in _TRUE if self.check is None else self.check


_settings = _Settings()


@contextlib.contextmanager
def _running(**changes: Any) -> Iterator[None]:
    """Other settings for a while, for the whole process: what the pytest plugin's options do."""
    global _settings
    before, _settings = _settings, dataclasses.replace(_settings, **changes)
    try:
        yield
    finally:
        _settings = before


_encoding = threading.local()  # .encoder: this thread's open one


class _Encoder:
    """A concurrent compute encoder: the calls of this thread within `with` may overlap on a GPU unless barrier() stands
    between them. Two that touch the same bytes, one of them writing, are a hazard: CheckError from the later call. With
    checked kernels the bytes are those really touched, else those of the buffers by their declared access.
    """

    def __init__(self) -> None:
        self._hazards = _MetalHazards()
        self._kept: list[Any] = []  # what was bound: memory given back would be another buffer's next

    def __enter__(self) -> _Encoder:
        if getattr(_encoding, "encoder", None) is not None:
            raise RuntimeError("an encoder is open in this thread")
        _encoding.encoder = self
        return self

    def __exit__(self, *error: object) -> None:
        _encoding.encoder = None
        self.barrier()

    def barrier(self, *resources: Any) -> None:
        """What follows waits for what came before, as far as it uses these arrays (which are contiguous); without any,
        for all of it."""
        self._hazards.barrier([types.memory_of(x) for x in resources])
        if not resources:
            self._kept.clear()


class Library:
    """The kernels of MSL source.

    source: the text, or a path object of a file. macros: values of preprocessor macros. include_dirs: searched for
    #include "..." after the file's own folder. device: None or "metal". Errors: CompileError with the lines of the
    source, or without a C++ compiler; DeviceError where the cache folder cannot be used. The source is parsed here;
    bodies are compiled by function().

    >>> import metallic as ml, numpy as np
    >>> library = ml.metal.Library('''
    ... #include <metal_stdlib>
    ... kernel void twice(device float *x, uint i [[thread_position_in_grid]]) { x[i] *= 2; }
    ... ''')
    >>> library.function_names
    ['twice']
    >>> x = np.arange(4, dtype=np.float32)
    >>> library.function("twice")(x, grid=(4,), threadgroup=(4,))
    >>> x
    array([0., 2., 4., 6.], dtype=float32)
    """

    def __init__(
        self,
        source: str | os.PathLike,
        *,
        macros: Mapping[str, str] | None = None,
        include_dirs: Sequence[str] = (),
        device: str | None = None,
    ) -> None:
        if device not in (None, "metal"):
            raise DeviceError(f"Library: device {device!r} runs no Metal kernels; 'metal' does")
        if isinstance(include_dirs, (str, os.PathLike)):
            raise TypeError(f"Library: include_dirs is a list of folders, not {include_dirs!r}")
        name = "program_source"
        if isinstance(source, os.PathLike):
            name = os.fspath(source)
            with open(name, encoding="utf-8") as file:
                source = file.read()
        self._name = name
        self._raw = _MetalLibrary(
            source,
            name,
            [types.macro(key, value) for key, value in (macros or {}).items()],
            [os.fspath(folder) for folder in include_dirs],
            _settings.checked(),
            _settings.strict,
        )

    @property
    def function_names(self) -> list[str]:
        """Names of the kernels, in the order of the source; host_name where one is given."""
        return self._raw.names()

    def function(self, name: str, constants: Mapping[int | str, bool | int | float] | None = None) -> Function:
        """A kernel, compiled on first use, with values for its function constants by index or name.

        Errors: ValueError for an unknown name, for a constant that the kernel reads and that has no value, for one of
        an unknown name; CompileError.
        """
        names = self.function_names
        if name not in names:
            raise ValueError(f"function: no kernel {name!r} in {self._name}; there are {', '.join(names) or 'none'}")
        known = self._raw.constants(name)
        values = [types.constant(name, key, value, known) for key, value in (constants or {}).items()]
        return Function(name, self._raw.load(name, [v for v in values if v is not None]))

    def __repr__(self) -> str:
        return f"<metallic.metal.Library {self._name}: {', '.join(self.function_names)}>"


class Function:
    """A kernel of a Library; calling it runs it and returns when it has run."""

    def __init__(self, name: str, raw: Any) -> None:
        self._name, self._raw = name, raw
        limit, self._threadgroup_bytes, rows = raw.info()
        self._arguments = [types.Argument(*row) for row in rows]
        self._buffers = {a.index: a for a in self._arguments if a.kind == "buffer"}
        self._limit = limit or 1024

    @property
    def max_total_threads_per_threadgroup(self) -> int:
        return self._limit

    @property
    def thread_execution_width(self) -> int:
        """Threads of a simdgroup."""
        return 32

    def __call__(
        self,
        *args: Any,
        grid: tuple[int, ...],
        threadgroup: tuple[int, ...],
        threads: bool = True,
        threadgroup_memory: Mapping[int, int] | None = None,
    ) -> None:
        """Runs the kernel over grid.

        args: what is bound to buffers 0, 1, ...; None leaves one unbound. Tensors and arrays are buffers and are
        written in place (one that is not contiguous through a copy; one that is read-only is never written). Numbers
        and bytes are copied, numbers as the kernel's own type. grid: threads, or threadgroups with threads=False; up
        to three extents. threadgroup: its threads. threadgroup_memory: bytes by index of [[threadgroup(index)]].

        Errors: TypeError and ValueError name the argument; DeviceError: the kernel failed (a wild access, for
        instance); CheckError: the checker found something.
        """
        limit = max(self._buffers, default=-1) + 1
        if any(arg is not None for arg in args[limit:]):  # None for one that a function constant takes away is fine
            raise TypeError(f"{self._name}: {len(args)} buffers given; it takes {self._signature()}")
        missing = [a.name for i, a in self._buffers.items() if i >= len(args)]
        if missing:
            raise TypeError(f"{self._name}: no value for {', '.join(missing)}; it takes {self._signature()}")
        bound = [
            types.bind(self._name, self._buffers[i], arg, keep=_settings.checked())
            for i, arg in enumerate(args)
            if i in self._buffers and arg is not None
        ]
        memory = types.threadgroup_memory(self._name, threadgroup_memory or {})
        encoder = getattr(_encoding, "encoder", None)
        if encoder is not None:
            encoder._kept += bound
        found, text, failure = self._raw.dispatch(
            [b.row for b in bound],
            memory,
            types.extents(self._name, "grid", grid),
            types.extents(self._name, "threadgroup", threadgroup),
            threads,
            ORDERS.index(_settings.order),
            _settings.seed,
            encoder._hazards if encoder is not None else None,
        )
        for b in bound:
            b.finish()
        findings = json.loads(found) if found else []
        if any(f["severity"] != "note" for f in findings):
            raise CheckError(f"{self._name}: {text}", findings)
        if _settings.notes is not None:
            _settings.notes += findings
        if failure:
            raise DeviceError(f"{self._name}: {failure}")

    def _signature(self) -> str:
        rows = sorted(self._buffers.values(), key=lambda a: a.index)
        return ", ".join(f"{a.index}: {a.type} {a.name}" for a in rows) or "no buffers"

    def __repr__(self) -> str:
        return f"<metallic.metal.Function {self._name}({self._signature()})>"


# ---- kernels from a body --------------------------------------------------------------------------------------------

_POSITIONS = {
    "uint": (
        "simdgroup_index_in_threadgroup", "simdgroups_per_threadgroup", "thread_index_in_quadgroup",
        "thread_index_in_simdgroup", "thread_index_in_threadgroup", "threads_per_simdgroup",
        "quadgroup_index_in_threadgroup", "quadgroups_per_threadgroup",
    ),
    "uint3": (
        "dispatch_threads_per_threadgroup", "grid_origin", "grid_size", "thread_position_in_grid",
        "thread_position_in_threadgroup", "threadgroup_position_in_grid", "threadgroups_per_grid",
        "threads_per_grid", "threads_per_threadgroup",
    ),
}  # fmt: skip
_PRELUDE = """#include <metal_stdlib>
using namespace metal;
typedef half float16_t;
typedef bfloat bfloat16_t;
// Place of element elem (in row-major order) of an array with these strides, in elements.
template <typename IdxT = int64_t>
inline IdxT elem_to_loc(IdxT elem, constant const int *shape, constant const int64_t *strides, int ndim) {
    IdxT place = 0;
    for (int i = ndim - 1; i >= 0 && elem > 0; --i) {
        place += (elem % shape[i]) * IdxT(strides[i]);
        elem /= shape[i];
    }
    return place;
}
"""
_CONSTANT_ELEMENTS = 8  # inputs with fewer go to the constant address space


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


@dataclasses.dataclass(frozen=True)
class _Template:
    """What decides the text of a kernel."""

    inputs: tuple[tuple[str, int, int], ...]  # MSL type, elements, dimensions
    outputs: tuple[str, ...]
    template: tuple[tuple[str, str, str], ...]  # name, kind, value


class _Kernel:
    """What metal_kernel returns."""

    def __init__(self, name, input_names, output_names, source, header, ensure_row_contiguous):
        self.name, self.source, self.header = name, source, header
        self.input_names, self.output_names = list(input_names), list(output_names)
        self.contiguous = ensure_row_contiguous
        self._functions: dict[tuple, tuple[Function, str]] = {}
        self._lock = threading.Lock()

    def _text(self, shape: _Template) -> str:
        parameters = []
        for name, (type_name, elements, ndim) in zip(self.input_names, shape.inputs, strict=True):
            space = "constant" if elements < _CONSTANT_ELEMENTS else "device"
            parameters.append(f"const {space} {type_name}{' &' if ndim == 0 else ' *'}{name}")
            if ndim > 0:
                for suffix, form in (("shape", "int *"), ("strides", "int64_t *"), ("ndim", "int &")):
                    if _mentions(self.source, f"{name}_{suffix}"):
                        parameters.append(f"const constant {form}{name}_{suffix}")
        parameters += [f"device {t} *{name}" for name, t in zip(self.output_names, shape.outputs, strict=True)]
        parameters = [f"{p} [[buffer({i})]]" for i, p in enumerate(parameters)]
        for type_name, names in _POSITIONS.items():
            parameters += [f"{type_name} {n} [[{n}]]" for n in names if _mentions(self.source, n)]
        joined = ",\n    ".join(parameters)
        declared = "".join(
            f"typedef {value} {name};\n" if kind == "type" else f"constant constexpr {kind} {name} = {value};\n"
            for name, kind, value in shape.template
        )
        return (
            f"{_PRELUDE}\n{self.header}\n{declared}[[kernel]] void {self.name}(\n    {joined}) {{\n"
            f'#line 1 "{self.name}"\n{self.source}\n}}\n'
        )

    def _function(self, shape: _Template) -> tuple[Function, str]:
        key = (shape, _settings.checked())
        with self._lock:
            if key not in self._functions:
                text = self._text(shape)
                self._functions[key] = Library(text).function(self.name), text
            return self._functions[key]

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[Any],
        grid: tuple[int, ...],
        threadgroup: tuple[int, ...],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[Tensor]:
        if len(inputs) != len(self.input_names):
            raise ValueError(f"{self.name}: {len(inputs)} inputs; it takes {', '.join(self.input_names)}")
        if not len(output_shapes) == len(output_dtypes) == len(self.output_names):
            raise ValueError(f"{self.name}: output_shapes and output_dtypes need one entry each for its "
                             f"{len(self.output_names)} outputs")  # fmt: skip
        from ._creation import empty

        values = [types.readable(self.name, n, x) for n, x in zip(self.input_names, inputs, strict=True)]
        if self.contiguous:
            values = [types.contiguous(x) for x in values]
        outputs = [empty(tuple(s), d) for s, d in zip(output_shapes, output_dtypes, strict=True)]
        if init_value is not None:
            for out in outputs:
                out.fill(init_value)
        shape = _Template(
            tuple((types.msl_name(x), types.size(x), len(x.shape)) for x in values),
            tuple(types.msl_name(out) for out in outputs),
            tuple(types.template_argument(self.name, n, v) for n, v in template or ()),
        )
        function, text = self._function(shape)
        if verbose:
            print(text)
        args: list[Any] = []
        for name, x in zip(self.input_names, values, strict=True):
            args.append(types.flat_memory(x))
            if len(x.shape) > 0:
                extra = {
                    "shape": ("i", x.shape),
                    "strides": ("q", types.element_strides(x)),
                    "ndim": ("i", [len(x.shape)]),
                }
                args += [types.packed(*v) for k, v in extra.items() if _mentions(self.source, f"{name}_{k}")]
        function(*args, *outputs, grid=grid, threadgroup=threadgroup)
        return outputs


def metal_kernel(
    name: str,
    input_names,
    output_names,
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
) -> Callable[..., list[Tensor]]:
    """A kernel from the body of one, as mlx.core.fast.metal_kernel: the signature is made from names and dtypes.

    source: statements; they may use the inputs and outputs by name, NAME_shape, NAME_strides (in elements) and
    NAME_ndim of an input, and the thread's positions by the names of their attributes (thread_position_in_grid, a
    uint3). header: what stands before the kernel. ensure_row_contiguous: inputs are copied when they are not
    row-major.

    Call it with inputs=, output_shapes=, output_dtypes=, grid= (in threads), threadgroup=, template= [(name, dtype, int
    or bool)], init_value= (before it runs), verbose= (prints the source). It returns a list of tensors.

    >>> import metallic as ml, numpy as np
    >>> square = ml.metal_kernel("square", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] * x[i];")
    >>> square(inputs=[np.arange(9, dtype=np.float32)], output_shapes=[(9,)], output_dtypes=[ml.float32],
    ...        grid=(9, 1, 1), threadgroup=(9, 1, 1))
    [Tensor([ 0.,  1.,  4.,  9., 16., 25., 36., 49., 64.], dtype=float32)]
    """
    return _Kernel(name, input_names, output_names, source, header, ensure_row_contiguous)
