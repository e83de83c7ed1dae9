"""A torchaudio whose libraries do not load is used without them; one whose libraries load is left alone."""

import subprocess
import sys

import pytest

PACKAGE = {
    "torchaudio/__init__.py": "from . import _extension\nfrom .functional import double\n",
    "torchaudio/functional.py": (
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "def double(x):\n    return 2 * x\n"
        "@fail_if_no_align\ndef align(x):\n    return 'compiled'\n"
    ),
}
LOADS = (
    "_IS_TORCHAUDIO_EXT_AVAILABLE = _IS_ALIGN_AVAILABLE = True\n"
    "def fail_if_no_align(function):\n    return function\n"
)  # fmt: skip
TRY = (
    "from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio\n"
    "allow_pure_torchaudio(), allow_pure_torchaudio()\n"
    "import torchaudio, torchaudio.functional as F\n"
    "print(torchaudio.double(21), torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE)\n"
    "print(F.align(1))\n"
)


def run(folder, code, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        "raise OSError('libcudart.so.13: cannot open')",
        "raise RuntimeError('CUDA versions differ')",
        "import nowhere_abc",
    ],
)
def test_without_its_libraries_the_python_half_works_and_the_rest_says_why_not(tmp_path, fault):
    done = run(tmp_path, TRY, PACKAGE | {"torchaudio/_extension/__init__.py": f"{fault}\n"})
    assert done.stdout.splitlines() == ["42 False"]
    assert "align needs torchaudio's compiled half, which did not load" in done.stderr
    without = run(tmp_path, "import torchaudio", {})
    assert without.returncode != 0


def test_with_its_libraries_nothing_is_replaced(tmp_path):
    done = run(tmp_path, TRY, PACKAGE | {"torchaudio/_extension/__init__.py": LOADS})
    assert done.stdout.splitlines() == ["42 True", "compiled"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import einops_of_nobody", "braindecode is installed, but einops_of_nobody, which it imports, is not"),
        ("raise OSError('undefined symbol')", "braindecode is installed, but cannot be imported: OSError: undefined"),
    ],
)
def test_a_braindecode_that_cannot_be_imported_is_not_called_missing(tmp_path, text, said):
    code = "from rtserve.graphs.braindecode import braindecode_models\nbraindecode_models()\n"
    done = run(tmp_path, code, {"braindecode/__init__.py": "", "braindecode/models.py": f"{text}\n"})
    assert said in done.stderr


def test_no_braindecode_is_said_with_the_cure(tmp_path):
    code = (
        "from rtserve.errors import EnvironmentMissingError\n"
        "from rtserve.graphs.braindecode import braindecode_models\n"
        "sys.modules['braindecode'] = None\n"
        "try:\n    braindecode_models()\n"
        "except EnvironmentMissingError as error:\n    print(error, error.exit_code)\n"
    )
    done = run(tmp_path, code, {})
    assert done.stdout == 'braindecode is not installed\nhint: pip install "rtserve[braindecode]" 4\n'
