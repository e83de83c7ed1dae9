"""What a file or folder given as a checkpoint is where torch.save did not write it, and what helps.

People have the archive of torch.export, arrays of NumPy, a download that is still packed, one part of a model in
several files. Each is known by how it begins or what lies in it, and called by its name.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from rtserve.errors import CheckpointError
from rtserve.files import readable_file
from rtserve.graphs.safetensors import is_index, sharing_index

__all__ = ["checkpoint_file", "is_checkpoint", "known_as", "require_whole_model"]

WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
"""How the names of files with weights end."""
UNPACK = "unpack it, and give the file in it"
BEGINNINGS = (
    (b"\x93NUMPY", "is one array of NumPy, without the names of a network's tensors", "give what torch.save wrote"),
    (b"\x89HDF\r\n", "is an HDF5 file, as Keras and h5py write, not PyTorch", "give what torch.save wrote"),
    (b"MATLAB 5.0", "is a file of MATLAB", "give what torch.save wrote"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file it stands for", "fetch it: git lfs pull"),
    (b"\x1f\x8b", "is packed with gzip", UNPACK),
    (b"BZh", "is packed with bzip2", UNPACK),
    (b"\xfd7zXZ\0", "is packed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is packed with 7-Zip", UNPACK),
    (b"Rar!", "is packed with RAR", UNPACK),
)
_PART = re.compile(r"-0*(\d+)-of-0*(\d+)\.")


def is_checkpoint(path: Path) -> bool:
    """Whether a file's name is one of those that files with weights have."""
    return path.suffix.lower() in WEIGHTS or is_index(path)


def checkpoint_file(path: str | Path) -> Path:
    """Return `path` if it is a file that can be read.

    Raises
    ------
    InputError
        As `rtserve.files.readable_file`.
    CheckpointError
        Where it is a folder: the hint names what in it may be meant.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder, not a file", hint=_in_folder(path))
    return readable_file(path, "checkpoint")


def _in_folder(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if "data.pkl" in names:
        return f"it is an unpacked archive of torch.save; pack it again: zip -0 -r {folder.name}.pth {folder.name}"
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, 'weights.pth') makes one file of it"
    indexes = [name for name in names if is_index(Path(name))]
    found = indexes or [name for name in names if name.endswith(WEIGHTS)]
    listed = ", ".join(str(folder / name) for name in found[:4]) + (" ..." if len(found) > 4 else "")
    return f"name the file itself: {listed}" if found else "name the file itself"


def known_as(path: Path) -> tuple[str, str] | None:
    """Return what a file is that torch.save did not write, and what helps; None where it is nothing known."""
    with open(path, "rb") as handle:
        head = handle.read(1024)
    for start, what, cure in BEGINNINGS:
        if head.startswith(start):
            return what, cure
    if head[257:262] == b"ustar":
        return "is a tar archive", UNPACK
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a page of the web, not the file it shows", "download the file itself (its raw address)"
    if path.suffix == ".onnx":
        return "is an ONNX graph", "it needs no export: give it to `rtserve fuse`"
    return _zipped(path) if head.startswith(b"PK") else None


def _zipped(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251 -- a stranger's archive, of which the names are read
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError):
        return None
    leaves = {name.rpartition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        keys = ", ".join(name.removesuffix(".npy") for name in names[:4])
        cure = "torch.save({k: torch.from_numpy(v) for k, v in numpy.load(FILE).items()}, 'weights.pth') makes it one"
        return f"is an .npz of NumPy arrays ({keys}{', ...' if len(names) > 4 else ''})", cure
    if "serialized_exported_program.json" in leaves or {"archive_format", "model.json"} <= leaves:
        cure = "save its weights: torch.save(torch.export.load(FILE).state_dict, 'weights.pth'), and name its exporter"
        return "is a program of torch.export (.pt2), not a checkpoint", cure
    if "model.weights.h5" in leaves:
        return "is a model of Keras, not PyTorch", "give what torch.save wrote"
    packed = [name for name in names if name.endswith(WEIGHTS)]
    if packed:
        more = f" and {len(packed) - 3} more" if len(packed) > 3 else ""
        return f"is a zip that holds {', '.join(packed[:3])}{more}", UNPACK
    return None


def require_whole_model(path: Path) -> None:
    """Raise `CheckpointError` where a file is one of several that hold a model together."""
    index = sharing_index(path)
    if index is not None:
        raise CheckpointError(
            f"checkpoint {path} is one part of a model in several files", hint=f"give their index: {index}"
        )
    part = _PART.search(path.name)
    if part and int(part[2]) > 1:
        raise CheckpointError(
            f"checkpoint {path} is part {part[1]} of {part[2]} of a model, and no index lies beside it",
            hint="download the other parts and the .index.json that says which holds what, and give that",
        )
