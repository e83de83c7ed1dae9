"""Submissions for the contest of 2026, one per track for each way of being right or broken: texts, no files.

A variant is the good submission of a track with parts of its script replaced, and more files beside it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from solvers import ANSWERS, HEAD

__all__ = ["VARIANTS", "Variant", "files_of"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to write, or to break, a submission.

    Parameters
    ----------
    edits : tuple of (str, str)
        Texts of the script and what stands there instead.
    files : mapping
        Further files.
    script : str
        Name of the script.
    """

    edits: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    script: str = "submission.py"


def _edit(*pair: str, **files: str | bytes) -> Variant:
    return Variant(edits=(pair,), files={name.replace("__", "."): data for name, data in files.items()})  # type: ignore[arg-type]


def _answer(text: str) -> Variant:
    return _edit("return y", f"return {text}")


def _loaded(text: str, **files: str | bytes) -> Variant:
    return _edit("return Model(meta)", f"{text}; return Model(meta)", **files)


def _weights() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer)
    return buffer.getvalue()


_WITH = """import importlib.util
        spec = importlib.util.spec_from_file_location("lib", meta["submission_dir"] / "lib.py")
        lib = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(lib)
        return Model(meta)"""

_GUARDED = "try:\n    import onnxruntime\nexcept ImportError:\n    pass\n"

VARIANTS: dict[str, Variant] = {
    "good": Variant(),
    "the other name of the base class": _edit("benchmark_utils.base_solver", "compet_core.base_solver"),
    "an array of NumPy": _answer("y.numpy()"),
    "a list": _answer("y.tolist()"),
    "double precision": _answer("y.double() if y.is_floating_point() else y.int()"),
    "a column": _answer("y[:, None] if y.ndim == 1 else y"),
    "no torch module": _edit("torch.nn.Module", "object"),
    "gradients on": _edit("@torch.inference_mode()", ""),
    "an answer that asks for gradients": Variant(
        edits=(
            ("@torch.inference_mode()", ""),
            ("return y", "return y.requires_grad_() if y.is_floating_point() else y"),
        )
    ),
    "state": _edit("f = X.std", "self.n = getattr(self, 'n', 0) + 1; f = X.std"),
    "reset_state": _edit("@torch.inference_mode()", "def reset_state(self): self.n = 0\n\n    @torch.inference_mode()"),
    "a file loaded by importlib": _edit("return Model(meta)", _WITH, lib__py="X = 1\n"),
    "another script that raises": Variant(files={"train.py": "raise ValueError('not here')\n"}),
    "a folder beside": Variant(files={"docs/readme.md": "read me"}),
    "weights by meta": _loaded("torch.load(meta['submission_dir'] / 'w.pt', weights_only=True)", w__pt=_weights()),
    "a guarded import": _edit("import torch\n", f"import torch\n{_GUARDED}"),
    "a second class": _edit("class Solver", "class Other:\n    pass\n\n\nclass Solver"),
    "sampling of its own": _edit('name = "mine"', 'name = "mine"\n    parameters = {}'),
    "no name": _edit('    name = "mine"\n', ""),
    "an empty name": _edit('name = "mine"', 'name = ""'),
    "a name that is no text": _edit('name = "mine"', "name = 7"),
    "an absent package": _edit("import torch\n", "import torch\nimport onnxruntime\n"),
    "a package of nobody": _edit("import torch\n", "import torch\nimport nobody_wrote_this\n"),
    "a sibling module": _edit("import torch\n", "import torch\nimport lib\n", lib__py="X = 1\n"),
    "a syntax error": _edit("class Model(", "class Model(("),
    "an error on import": _edit("class Model(", "raise ValueError('no')\n\n\nclass Model("),
    "an exit on import": _edit("class Model(", "raise SystemExit(3)\n\n\nclass Model("),
    "another class name": _edit("class Solver(", "class MySolver("),
    "another method": _edit("def load_model(", "def load_models("),
    "no argument": _edit("def load_model(self, meta):", "def load_model(self):"),
    "a script of another place": Variant(script="mine/submission.py"),
    "a missing file": _loaded("torch.load(meta['submission_dir'] / 'w.pt', weights_only=True)"),
    "weights beside the script": _loaded(
        "torch.load(__import__('pathlib').Path(__file__).parent / 'w.pt', weights_only=True)", w__pt=_weights()
    ),
    "a relative path": _loaded("torch.load('w.pt', weights_only=True)", w__pt=_weights()),
    "no predict": _edit("def predict(", "def infer("),
    "nothing": _edit("return Model(meta)", "Model(meta)"),
    "the class itself": _edit("return Model(meta)", "return Model"),
    "a scalar": _answer("y.float().mean()"),
    "one row too many": _answer("torch.cat([y, y[:1]])"),
    "a tuple": _answer("y, f"),
    "a dictionary": _answer("{'y': y}"),
    "text": _answer("'left'"),
    "nothing from predict": _edit("return y", "pass"),
    "an error in predict": _edit("f = X.std", "raise ValueError('no'); f = X.std"),
    "made for 47 channels": _edit("f = X.std", "X = X @ torch.ones(47, 1); f = X.std"),
    "an axis too many": _answer("y[..., None, None, None].repeat(*(1,) * y.ndim, 1, 2, 3)"),
    "no copies": _edit("self.meta = meta", "self.meta = meta; self.lock = __import__('threading').Lock()"),
    "an unknown key of meta": _loaded("meta['n_of_nothing']"),
}
"""Eighteen that are as the contract has them, or that it lets be, and thirty that it does not."""


def files_of(variant: Variant, track: str) -> dict[str, str | bytes]:
    """Return the files of a variant for a track."""
    text = HEAD.replace("{answer}", f"y = {ANSWERS[track]}\n        return y")
    for old, new in variant.edits:
        if old not in text:
            raise ValueError(f"the good script has no {old!r}")
        text = text.replace(old, new)
    return {variant.script: text, **variant.files}
