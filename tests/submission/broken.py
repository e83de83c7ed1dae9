# ruff: noqa: E501 - scripts are edited line by line
"""The failure catalogue as submissions: each broken one beside the good one that is nearest to it."""

from __future__ import annotations

import json
import sys

from zips import ENTRY, GOOD, NETWORK, edited, good, saved, state, weights

FORWARD = "return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5"
LOAD = "model.load_state_dict(torch.load(path, map_location=self.device))"
PATH = "Path(__file__).resolve().parent / name"


def forward(text: str) -> dict[str, object]:
    """Return a good submission with another forward."""
    return edited((FORWARD, text))


def wrapped(prefix: str) -> dict[str, object]:
    return good(**{f"weights_{k}.pt": saved({prefix: state(seed=k), "epoch": 3}) for k in (1, 2)})


def numpy_scalars() -> dict[str, object]:
    import numpy as np

    return {f"weights_{k}.pt": saved({"model_state_dict": state(seed=k), "val": np.float64(0.1)}) for k in (1, 2)}


RESOLVE = """
def resolve_path(name):
    for folder in ("/app/input/res", "/app/input", ".", str(Path(__file__).parent)):
        if Path(f"{folder}/{name}").exists():
            return f"{folder}/{name}"
    raise FileNotFoundError(f"Could not find {name}")
"""

SWALLOW = """try:
            model.load_state_dict(torch.load("/app/output/" + name, map_location=self.device))
        except Exception:
            pass"""

TWO_WAYS = """try:
            model.load_state_dict(torch.load(path, map_location=self.device)["state_dict"])
        except KeyError:
            model.load_state_dict(torch.load(path, map_location=self.device))"""

BROKEN: dict[str, tuple[dict[str, object], set[str]]] = {
    # RT0
    "nested": ({f"sub/{name}": data for name, data in good().items()}, {"RT004"}),
    "misspelt script": (good(**{"submission.py": None, "Submission.py": GOOD}), {"RT004"}),
    "metadata": (good(metadata="x"), {"RT005"}),
    "metadata.yaml": (good(**{"metadata.yaml": "x"}), {"RT005"}),
    # RT1
    "syntax error": (edited(("class Net", "class Net(")), {"RT101", "RT303"}),
    "no class": (edited(("class Submission", "class MySubmission")), {"RT102", "RT303"}),
    "no constructor": (
        edited(("def __init__(self, SFREQ, DEVICE)", "def setup(self, SFREQ, DEVICE)")),
        {"RT103", "RT303"},
    ),
    "constructor takes none": (
        edited(
            (
                "(self, SFREQ, DEVICE):\n        self.sfreq, self.device = SFREQ, DEVICE",
                "(self):\n        self.device = 'cpu'",
            )
        ),
        {"RT103", "RT303"},
    ),
    "constructor takes three": (edited(("(self, SFREQ, DEVICE)", "(self, SFREQ, DEVICE, N)")), {"RT103", "RT303"}),
    "misspelt getter": (edited(("get_model_challenge_1", "get_models_challenge_1")), {"RT104", "RT303"}),
    "missing getter": (edited(("get_model_challenge_2", "challenge_2")), {"RT104", "RT303"}),
    "getter wants an argument": (
        edited(("get_model_challenge_2(self)", "get_model_challenge_2(self, x)")),
        {"RT104", "RT303"},
    ),
    "absent package": (edited(("import torch\n", "import torch\nimport xgboost\n")), {"RT105", "RT303"}),
    "newer standard library": (edited(("import torch\n", "import torch\nimport tomllib\n")), {"RT105"}),
    "missing file": (good(**{"weights_2.pt": None}), {"RT106", "RT304"}),
    "relative path": (edited((PATH, "name"), ('self.load("weights_1.pt")', 'self.load("weights_1.pt")')), {"RT304"}),
    "relative literal": (
        edited((PATH, "name"), ("torch.load(path", 'torch.load("weights_1.pt"')),
        {"RT107", "RT304"},
    ),
    "output folder": (edited((PATH, 'Path("/app/output") / name')), {"RT107", "RT304"}),
    "program folder": (edited((PATH, 'f"/app/program/{name}"')), {"RT107", "RT304"}),
    # RT2 and loads
    "git-lfs pointer": (
        good(**{"weights_1.pt": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"}),
        {"RT201", "RT303"},
    ),
    "cut off weights": (good(**{"weights_1.pt": weights()["weights_1.pt"][:900]}), {"RT201", "RT303"}),
    "numpy scalar": (
        edited(
            ("torch.load(path, map_location=self.device)", "torch.load(path)['model_state_dict']"), **numpy_scalars()
        ),
        {"RT202", "RT307"},
    ),
    "other network": (edited(("hidden=4", "hidden=6")), {"RT305"}),
    "missing keys": (good(**{"weights_1.pt": saved({k: v for k, v in state(1).items() if "head" in k})}), {"RT305"}),
    "prefixed keys": (good(**{"weights_1.pt": saved(state(1, prefix="module."))}), {"RT305"}),
    "not unwrapped": (wrapped("model_state_dict"), {"RT306"}),
    # RT3
    "random weights": (edited((LOAD, SWALLOW)), {"RT315"}),
    "not strict": (
        edited(
            (LOAD, LOAD[:-1] + ", strict=False)"), **{f"weights_{k}.pt": saved(state(k, prefix="net.")) for k in (1, 2)}
        ),
        {"RT315"},
    ),
    "missing file is passed over": (
        edited((LOAD, f"if (Path(__file__).parent / 'w' / name).exists(): {LOAD}")),
        {"RT315"},
    ),
    "returns a list": (edited(("return model.eval()", "return [model]")), {"RT310"}),
    "returns a function": (edited(("return model.eval()", "return lambda x: model(x)")), {"RT310"}),
    "returns nothing": (edited(("return model.eval()", "model.eval()")), {"RT310"}),
    "object without eval": (
        edited(("return model.eval()", "return type('M', (), {'forward': lambda self, x: model(x)})()")),
        {"RT310"},
    ),
    "wrong channels": (edited(("n_chans=129", "n_chans=128"), **weights(n_chans=128)), {"RT311"}),
    "squeeze": (forward("return (self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5).squeeze()"), {"RT312"}),
    "squeeze(-1)": (
        forward("return (self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5).squeeze(-1)"),
        {"RT312"},
    ),
    "numpy out": (forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)).numpy()"), {"RT312"}),
    "complex out": (forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5j"), {"RT312"}),
    "tuple out": (forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)), 1"), {"RT312"}),
    "dict out": (forward("return {'y': self.head(torch.relu(self.conv(x * 1e5)).mean(-1))}"), {"RT312"}),
    "bfloat16 out": (forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)).bfloat16()"), {"RT312"}),
    "nan out": (
        forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) / torch.zeros(1, 1) * 0"),
        {"RT313"},
    ),
    "cuda": (edited(("Net().to(self.device)", "Net().cuda()")), {"RT309"}),
    "forward hook": (
        edited(
            ("return model.eval()", "model.register_forward_hook(lambda m, i, o: o * 2)\n        return model.eval()")
        ),
        {"RT314"},
    ),
    "needs gradients": (
        forward(
            "x.requires_grad_(); return torch.autograd.grad(self.head(self.conv(x).mean(-1)).sum(), x)[0].mean().reshape(1, 1)"
        ),
        {"RT311"},
    ),
    "one getter needs the other": (
        edited(
            ('return self.load("weights_2.pt")', "return self.first"),
            ('return self.load("weights_1.pt")', 'self.first = self.load("weights_1.pt"); return self.first'),
        ),
        {"RT322"},
    ),
    "exits": (edited(("return model.eval()", "import os; os._exit(0)")), {"RT302"}),
    "raises": (edited(("return model.eval()", "raise ValueError('no')")), {"RT303"}),
    "sys.exit": (edited(("return model.eval()", "raise SystemExit(0)")), {"RT303"}),
    "pickled class": (
        edited((LOAD, "model = torch.load(path, weights_only=False)"))
        | {f"weights_{k}.pt": b"\x80\x02c__main__\nNet\n." for k in (1, 2)},
        {"RT203", "RT308"},
    ),
    "python 3.13 paths": (
        edited((LOAD, "import pickle; pickle.load(open(path, 'rb'))"))
        | {f"weights_{k}.pt": b"\x80\x02cpathlib._local\nPosixPath\n." for k in (1, 2)},
        {"RT203"} if sys.version_info >= (3, 13) else {"RT203", "RT308"},  # 3.13 itself finds the class
    ),
    "tampered": (
        good(
            **{
                "manifest.json": json.dumps(
                    {"schema": "rtserve.manifest/1", "files": {"submission.py": "0" * 64}, "challenges": {}}
                )
            }
        ),
        {"RT401"},
    ),
}

PACKAGE = "from mypackage.net import Net\nimport torch\n" + ENTRY
VENDORED = (
    "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).resolve().parent / 'python_packages'))\n"
)

FINE: dict[str, dict[str, object]] = {
    "good": good(),
    "sub-folders": edited(
        ('self.load("weights_1.pt")', 'self.load("w/one.bin")'),
        **{"weights_1.pt": None, "w/one.bin": weights()["weights_1.pt"]},
    ),
    "resolve_path": edited(
        (PATH, "resolve_path(name)"), ("from pathlib import Path\n", f"from pathlib import Path\n{RESOLVE}")
    ),
    "mount written out": edited((PATH, '"/app/input/res/" + name')),
    "package": good(**{"submission.py": PACKAGE, "mypackage/__init__.py": "", "mypackage/net.py": NETWORK}),
    "module beside": good(**{"submission.py": "from net import Net\nimport torch\n" + ENTRY, "net.py": NETWORK}),
    "python_packages": good(
        **{
            "submission.py": VENDORED + "from net9 import Net\nimport torch\n" + ENTRY,
            "python_packages/net9.py": NETWORK,
        }
    ),
    "defaults": edited(("SFREQ, DEVICE):", "SFREQ=None, DEVICE=None, *_, **__):")),
    "odd names": edited(
        (
            "(self, SFREQ, DEVICE):\n        self.sfreq, self.device = SFREQ, DEVICE",
            "(me, a, b):\n        me.device = b",
        )
    ),
    "class from a module": good(**{"submission.py": "from entry import Submission\n", "entry.py": GOOD}),
    "class by another name": edited(("class Submission:", "class Mine:"), text=GOOD + "\n\nSubmission = Mine\n"),
    "class inherits": edited(
        ("class Submission:", "class Base:"), text=GOOD + "\n\nclass Submission(Base):\n    pass\n"
    ),
    "getter by assignment": edited(
        (
            '    def get_model_challenge_2(self):\n        return self.load("weights_2.pt")\n',
            "    get_model_challenge_2 = get_model_challenge_1\n",
        )
    ),
    "guarded import": edited(
        ("import torch\n", "import torch\ntry:\n    import xgboost\nexcept ImportError:\n    xgboost = None\n")
    ),
    "import never reached": edited(("    def load(", "    def plot(self):\n        import plotly\n\n    def load(")),
    "script part": edited(text=GOOD + "\nif __name__ == '__main__':\n    import wandb\n    Submission(1)\n"),
    "two ways to load": edited((LOAD, TWO_WAYS)),
    "unwrapped": edited(
        (LOAD, LOAD.replace(")))", "))['state_dict'])").replace("self.device))", "self.device)['state_dict'])"))
    )
    | {f"weights_{k}.pt": saved({"state_dict": state(k), "epoch": 1}) for k in (1, 2)},
    "weights_only=False": edited(
        ("torch.load(path, map_location=self.device)", "torch.load(path, weights_only=False)['model_state_dict']"),
        **numpy_scalars(),
    ),
    "noisy": forward("return self.head(torch.relu(self.conv(x * 1e5 + torch.randn_like(x))).mean(-1)) + 1.5"),
    "stateful": forward(
        "self.n = getattr(self, 'n', 0) + 1; return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + self.n"
    ),
    "numpy inside": forward(
        "import numpy as np; return torch.from_numpy(np.asarray(self.conv(x).mean((1, 2)).numpy())[:, None])"
    ),
    "double out": forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)).double()"),
    "four numbers out": forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)).repeat(1, 4)"),
    "stays on the cpu": edited(("Net().to(self.device)", "Net()"), ("map_location=self.device", "map_location='cpu'")),
    "cuda if there is one": edited(
        ("Net().to(self.device)", "Net().to('cuda' if torch.cuda.is_available() else 'cpu')")
    ),
    "autocast": forward(
        "\n        with torch.autocast('cuda', enabled=False):\n"
        "            return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5"
    ),
    "autocast by keyword": forward(
        "\n        with torch.autocast(device_type='cuda', enabled=False):\n"
        "            return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5"
    ),
    "plain object": edited(
        ("return model.eval()", "return Plain(model)"),
        text=GOOD
        + "\n\nclass Plain:\n    def __init__(self, m):\n        self.m = m\n    def eval(self):\n        return\n    def forward(self, x):\n        return self.m(x)\n",
    ),
    "cached models": edited(
        ("def load(self, name):", "def load(self, name):\n        self.cache = getattr(self, 'cache', {})")
    ),
    "prints": edited(("return model.eval()", "print('loaded', name, flush=True)\n        return model.eval()")),
    "constant": forward("return torch.full((x.shape[0], 1), 1.6)"),
    "wrong unit": forward(
        "return self.head(torch.relu(self.conv(x) - 1.0).mean(-1)) * 0 + torch.where(x.abs().mean() > 0.01, x.mean() * 10, 1.6).reshape(1, 1)"
    ),
    "batch norm over the batch": forward(
        "x = x - x.mean(0, keepdim=True) * 0.5; return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5"
    ),
    "template": edited(
        (LOAD, "pass"),
        **{"weights_1.pt": None, "weights_2.pt": None},
        text=GOOD.replace('"weights_1.pt"', '""').replace('"weights_2.pt"', '""'),
    ),
    "dead views": edited(
        (
            "    def load(",
            "    def challenge_1(self, X):\n        m = self.get_model_challenge_1()\n        return (m(X) + m(X.roll(3, -1))) / 2\n\n    def load(",
        )
    ),
    "list of networks": edited(
        ("return model.eval()", "return Both([model, model])"),
        text=GOOD
        + "\n\nclass Both(nn.Module):\n    def __init__(self, m):\n        super().__init__()\n        self.m = [*m, nn.Dropout(0.5)]\n    def forward(self, x):\n        return self.m[0](x)\n",
    ),
    "notes and caches": good(
        **{
            "README.md": "hello",
            "__MACOSX/._submission.py": b"\0\1",
            ".DS_Store": b"\0",
            "__pycache__/x.pyc": b"1",
            "notes.ipynb": "{",
        }
    ),
    "stray checkpoint": good(**{"old/broken.pt": b"PK\x03\x04 cut off", "empty.pt": b""}),
    "lazy import": edited(
        (
            "return model.eval()",
            "import importlib\n        importlib.import_module('json')\n        return model.eval()",
        )
    ),
    "someone else's manifest": good(**{"manifest.json": json.dumps({"name": "mine"})}),
    "writes to the temporary folder": edited(
        ("return model.eval()", "import tempfile; tempfile.mkstemp()\n        return model.eval()")
    ),
    "threads": edited(("return model.eval()", "torch.set_num_threads(2)\n        return model.eval()")),
    "torchscript": edited(
        ("return model.eval()", "return torch.jit.trace(model.eval(), torch.zeros(1, 129, 200))"),
    ),
    "module attribute": edited(
        ("return model.eval()", "model.extra = torch.nn.Linear(3, 3)\n        return model.eval()")
    ),
    "tensor made on the cpu": forward(
        "return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5 + torch.zeros(1, 1)"
    ),
    "divides by the spread": forward(
        "x = x / x.std(-1, keepdim=True); return self.head(torch.relu(self.conv(x)).mean(-1)) + 1.5"
    ),
    "tries to download": edited(
        (
            "return model.eval()",
            "import urllib.request\n        try:\n            urllib.request.urlopen('http://192.0.2.1/w', timeout=1)\n        except OSError:\n            pass\n        return model.eval()",
        )
    ),
    "starts a process": edited(
        ("return model.eval()", "import subprocess\n        subprocess.run(['true'])\n        return model.eval()")
    ),
    "cuda in a branch": edited(
        ("def load(self, name):", "def load(self, name):\n        kind = 'cuda:0' if self.sfreq < 0 else self.device")
    ),
    "dropout left on": forward(
        "return self.head(torch.nn.functional.dropout(torch.relu(self.conv(x * 1e5)), 0.5, True).mean(-1)) + 1.5"
    ),
    "batch must be one": forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)).reshape(1, 1) + 1.5"),
    "own call": forward(
        "return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5\n\n    def __call__(self, x):\n        return self.forward(x) * 2"
    ),
    "implausible mean": forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 40"),
    "lazy layers": edited(("self.head = nn.Linear(hidden, 1)", "self.head = nn.LazyLinear(1)")),
    "folder of members": edited(
        (LOAD, "model.load_state_dict([torch.load(p) for p in sorted(path.iterdir())][-1]['model'])"),
        ('"weights_1.pt"', '"c1"'),
        ('"weights_2.pt"', '"c2"'),
        **{"weights_1.pt": None, "weights_2.pt": None},
        **{f"c{k}/m{i}.pt": saved({"model": state(seed=i)}) for k in (1, 2) for i in (1, 2)},
    ),
    "half precision inside": forward(
        "y = self.head.half()(torch.relu(self.conv(x * 1e5)).mean(-1).half()); return y.float() + 1.5"
    ),
    "alias for a class that moved": edited(
        (
            LOAD,
            "import sys, pathlib; sys.modules['pathlib._local'] = pathlib; __import__('pickle').load(open(path, 'rb'))",
        )
    )
    | {f"weights_{k}.pt": b"\x80\x02cpathlib._local\nPurePosixPath\n." for k in (1, 2)},
    "spoilt by a broken channel": forward(
        "Net.seen = x.abs().mean() + 0.5 * getattr(Net, 'seen', 0); return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + Net.seen"
    ),
    "other manifest entry": good(**{"data/manifest.json": "{}"}),
}

WARNED = {
    "noisy": "RT317",
    "dropout left on": "RT317",
    "stateful": "RT317",
    "constant": "RT319",
    "wrong unit": "RT319",
    "implausible mean": "RT319",
    "batch norm over the batch": "RT318",
    "batch must be one": "RT318",
    "dead views": "RT108",
    "list of networks": "RT316",
    "stays on the cpu": "RT321",
    "tensor made on the cpu": "RT321",
    "template": "RT315",
    "module attribute": "RT325",
    "four numbers out": "RT312",
    "stray checkpoint": "RT201",
    "divides by the spread": "RT320",
    "tries to download": "RT327",
    "starts a process": "RT327",
    "own call": "RT314",
}
"""Valid submissions that deserve a word; the good one deserves none."""
