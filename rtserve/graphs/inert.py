"""A pickle read without running anything in it: tensors, numbers and containers come out, all else stays inert.

A pickle is a little program that may call any function there is. This reader gives it a closed list of our own
functions (tensors, numbers, containers); every other name becomes an `Inert` that does nothing when it is called, built
or filled, so that a path, a Namespace or somebody's config class beside the weights does not stand in their way. Names
whose only use is to run code (``os.system``, ``builtins.eval``) are refused, because such a file was made to do harm.

It is Python's own pure unpickler: the one in C lets a few bytes claim any amount of memory for its memo.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251 -- the opcodes; find_class below decides what they may name
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rtserve.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Inert", "InertUnpickler", "StorageType"]

RUNS_CODE = re.compile(
    r"^(os|posix|nt|subprocess|shutil|socket|pty|commands|runpy|importlib|webbrowser|ctypes)\."
    r"|^(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__|input|breakpoint)$"
    r"|^(pickle|_pickle|cPickle|marshal|code|codeop|pdb|timeit|cProfile|urllib)\."
    r"|^torch\.(load|hub|jit)\b"
)
"""Globals that no settings need and that run code or reach outside."""


class Inert(dict):  # type: ignore[type-arg]
    """What stands for an object of a class that is not imported: it keeps what the pickle gave it, and does nothing.

    A dict, so that the items of somebody's dict class can be looked through; equal to itself alone, and hashable.
    """

    inert_name = "?"
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Return an empty one, whatever it is called with."""
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            self.update(args[0])

    def __setstate__(self, state: Any) -> None:
        self.state = state

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def append(self, item: Any) -> None:
        """Take an item of a list class; it is not kept."""

    def extend(self, items: Any) -> None:
        """Take items of a list class; they are not kept."""

    def add(self, item: Any) -> None:
        """Take an item of a set class; it is not kept."""

    @property
    def is_module(self) -> bool:
        """Whether this is a pickled torch.nn.Module."""
        return isinstance(self.state, Mapping) and {"_parameters", "_modules"} <= self.state.keys()

    def __str__(self) -> str:
        if self.inert_name.startswith("pathlib.") and all(isinstance(part, str) for part in self.args):
            return repr("/".join(self.args))[:80]
        return self.inert_name.rpartition(".")[2]


class StorageType:
    """What a storage holds, by torch's name of its class."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any = None, hooks: Any = None, how: Any = None
) -> torch.Tensor:
    """``torch._utils._rebuild_tensor`` and its second version; torch checks that the view lies inside the storage.

    `how` says that the numbers are to be read negated or conjugated: ``kernel.conj().imag`` is stored so.
    """
    import torch

    if not isinstance(storage, torch.Tensor):
        raise CheckpointError("a tensor without a storage of numbers", hint="save it dense and unquantised")
    read = storage.as_strided(tuple(size), tuple(stride), int(offset))
    said = (
        {key for key, value in how.items() if value} if isinstance(how, Mapping) else set(["something"] if how else [])
    )
    if said - {"conj", "neg"}:
        raise CheckpointError(
            f"a tensor that says of itself {', '.join(map(str, sorted(said, key=str)))}, which is not known",
            hint="save a plain copy: {key: tensor.clone() for key, tensor in model.state_dict().items()}",
        )
    read = read.conj() if "conj" in said else read  # views: the numbers of an old file are read after its pickle
    return read._neg_view() if "neg" in said else read


def _tensor_of_bytes(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> torch.Tensor:
    """``torch._utils._rebuild_tensor_v3``: the storage is bytes, the type stands beside it."""
    return _tensor(storage.view(dtype), offset, size, stride, grad, hooks, *rest[:1])


def _same(data: Any, *rest: Any) -> Any:
    """``_rebuild_parameter``: the tensor itself."""
    return data


def _from_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """``_rebuild_from_type_v2``: a tensor of a subclass, as a plain one; `function` is one of ours."""
    return function(*args)


def _set(items: Any = ()) -> set[Any]:
    return set(items) if isinstance(items, (list, tuple, set)) else set()


def _dict(*args: Any) -> dict[Any, Any]:
    """A defaultdict or Counter: what it holds, without its factory."""
    return dict(args[0]) if len(args) == 1 and isinstance(args[0], Mapping) else {}


def _ordered(*args: Any) -> OrderedDict[Any, Any]:
    made: OrderedDict[Any, Any] = OrderedDict()
    for pair in args[0] if args and isinstance(args[0], (list, tuple)) else ():
        made[pair[0]] = pair[1]
    return made


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode``: how protocol 2 writes bytes."""
    return text.encode("latin1") if isinstance(text, str) and encoding in ("latin1", "latin-1") else b""


def _bytes(*args: Any) -> bytes:
    """``bytes`` and ``bytearray`` of bytes or text; of a number, which would only claim memory, nothing."""
    if args and isinstance(args[0], str):
        return _encode(args[0])
    return bytes(args[0]) if args and isinstance(args[0], (bytes, bytearray)) else b""


def _complex(*args: Any) -> Any:
    return complex(*[arg for arg in args if isinstance(arg, (int, float))][:2])


def _size(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items) if isinstance(items, (list, tuple)) else ()


def _reconstructed(kind: Any, base: Any, state: Any) -> Any:
    """``copyreg._reconstructor``: an object of a class of old, inert as all are."""
    made = kind() if isinstance(kind, type) and issubclass(kind, Inert) else Inert()
    if isinstance(state, Mapping):
        made.update(state)
    return made


def _attribute(owner: Any, name: Any = "?", *rest: Any) -> type[Inert]:
    """``getattr``: how old protocols name a class inside a class, or an enum's member; never the attribute itself."""
    return type("Inert", (Inert,), {"inert_name": f"{getattr(owner, 'inert_name', '')}.{name}"})


class _Dtype:
    """``numpy.dtype`` of a plain number; anything else stays without a type."""

    def __init__(self, text: Any = "", *rest: Any) -> None:
        import numpy as np

        plain = isinstance(text, str) and re.fullmatch(r"[<>=|]?[biufc?][0-9]{0,2}", text)
        self.dtype = np.dtype(text) if plain else None

    def __setstate__(self, state: Any) -> None:
        if self.dtype is not None and isinstance(state, tuple) and state[1:2] in ((">",), ("<",)):
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    """A number of numpy from its bytes."""
    import numpy as np

    fits = isinstance(dtype, _Dtype) and dtype.dtype is not None and isinstance(raw, bytes)
    return np.frombuffer(raw, dtype.dtype)[0] if fits else Inert()


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _dict,
    "collections.Counter": _dict,
    "builtins.getattr": _attribute,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructed,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_bytes,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}
"""All that a pickle may call: our own functions, under the names it knows."""
_ALIASES = {"_reconstruct": "numpy.ndarray", "_frombuffer": "numpy.ndarray"}


class InertUnpickler(pickle._Unpickler):
    """Reads one pickle from a file of bytes.

    Parameters
    ----------
    file : BinaryIO
        Where the pickle begins.
    storage : callable, optional
        Turns a persistent id, as torch writes one for each storage, into a flat tensor.
    nested : callable, optional
        Reads the bytes of a torch file inside the pickle.

    Raises
    ------
    CheckpointError
        Where the pickle names a function whose only use is to run code.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(
        self,
        file: io.BufferedIOBase,
        *,
        storage: Callable[[Any], torch.Tensor] | None = None,
        nested: Callable[[bytes], Any] | None = None,
    ) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._storage = storage
        self._nested = nested
        self._classes: dict[str, type[Inert]] = {}

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that `pid` names."""
        if self._storage is None:
            raise CheckpointError("a storage outside the file", hint="save it with torch.save")
        return self._storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global: one of our functions, a type of number, or a class that does nothing."""
        full = _modern(module, name)
        if RUNS_CODE.search(full):
            raise CheckpointError(f"asks for {full}, which is not run", hint=RESAVE)
        if full == "torch.storage._load_from_bytes" and self._nested is not None:
            return self._nested
        if full in _KNOWN:
            return _KNOWN[full]
        found = _torch_type(full)
        return found if found is not None else self._inert(full)

    def _inert(self, full: str) -> type[Inert]:
        if full not in self._classes:
            shown = _ALIASES.get(full.rpartition(".")[2], full.replace("pathlib._local.", "pathlib."))
            self._classes[full] = type("Inert", (Inert,), {"inert_name": shown})
        return self._classes[full]

    def load_build(self) -> None:
        """Give an inert object its state, and an ordered dict what it carries beside its items; nobody else any."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Inert, _Dtype)):
            target.__setstate__(state)
        elif isinstance(target, OrderedDict) and isinstance(state, Mapping) and "_metadata" in state:
            target._metadata = state["_metadata"]  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build


RESAVE = "re-save it as pure tensors where you trust it: torch.save(model.state_dict(), 'weights.pth')"


def _modern(module: str, name: str) -> str:
    """Return a global under the name it has today; pickles of torch use those of Python 2."""
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _torch_type(full: str) -> Any:
    """Return a storage or number type of torch by its name, or None."""
    module, _, name = full.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage"):
        return None
    import torch

    if name in _STORAGES:
        return StorageType(getattr(torch, _STORAGES[name]))
    found = getattr(torch, name, None) if module == "torch" else None
    return found if isinstance(found, torch.dtype) else None
