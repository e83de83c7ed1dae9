"""onnxruntime that travels along: a wheel cut down to what runs a graph."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from rtserve.errors import InputError, ProfileError
from rtserve.files import sha256_file

if TYPE_CHECKING:
    from rtserve.submission.recipe import Recipe

__all__ = ["trim_wheel", "vendored_files"]

DATE = (1980, 1, 1, 0, 0, 0)
KEPT = re.compile(
    r"onnxruntime/(__init__\.py|LICENSE|ThirdPartyNotices\.txt"
    r"|capi/(__init__|_pybind_state|_ld_preload|onnxruntime_inference_collection|onnxruntime_validation"
    r"|onnxruntime_collect_build_info|build_and_package_info|version_info|convert_npz_to_onnx_adapter)\.py"
    r"|capi/(onnxruntime_pybind11_state[^/]*|libonnxruntime_providers_shared)\.so)"
)
"""What a session on the CPU needs; tools, quantisation and other providers stay behind, the licence comes along."""
NAME = re.compile(
    r"onnxruntime-(?P<version>[^-]+)-(?P<python>cp3\d+)-[^-]+-manylinux.*_(?P<machine>x86_64|aarch64)\.whl"
)


def vendored_files(recipe: Recipe, root: Path | None) -> dict[str, bytes]:
    """Return the trimmed package of the recipe's wheel by its name in the zip; nothing where no wheel is named.

    Raises
    ------
    InputError
        Where the wheel is missing, is another than the recipe names, or is no onnxruntime wheel for Linux.
    ProfileError
        Where a challenge asks for onnxruntime and no wheel is named: no scorer has it.
    """
    runtimes = {recipe.runtime_of(key) for key in recipe.challenges}
    if recipe.wheel is None:
        if "onnxruntime" in runtimes:
            raise ProfileError(
                'runtime = "onnxruntime" without a wheel: the scorer has no onnxruntime',
                hint='add wheel = { path = "onnxruntime-1.23.2-cp310-...whl", sha256 = "..." } (last for Python 3.10;'
                " `pip download --no-deps --only-binary=:all: --python-version 3.10 onnxruntime==1.23.2` fetches it)"
                ', or choose runtime = "auto"',
            )
        return {}
    if not runtimes & {"onnxruntime", "auto"}:
        raise ProfileError("a wheel is named, but no challenge runs by onnxruntime", hint='runtime = "auto" uses it')
    path = recipe.locate(recipe.wheel.path, root, "wheel")
    actual = sha256_file(path)
    if actual != recipe.wheel.sha256:
        raise InputError(
            f"{recipe.wheel.path} has sha256 {actual}, the recipe says {recipe.wheel.sha256}",
            hint="use the wheel the recipe was written for, or write its digest into the recipe",
        )
    match = NAME.fullmatch(path.name)
    if match is None:
        raise InputError(
            f"{path.name} is no onnxruntime wheel for Linux",
            hint="its name is onnxruntime-VERSION-cp310-cp310-manylinux...",
        )
    name = f"onnxruntime-{match['version']}-{match['python']}-{match['machine']}.zip"
    return {name: trim_wheel(path)}


def trim_wheel(path: Path) -> bytes:
    """Return what a session on the CPU needs of an onnxruntime wheel, as a zip with repeatable bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(path) as wheel, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:  # noqa: TID251
        for name in sorted(wheel.namelist()):
            if KEPT.fullmatch(name):
                entry = zipfile.ZipInfo(name, date_time=DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                out.writestr(entry, wheel.read(name))
    return target.getvalue()
