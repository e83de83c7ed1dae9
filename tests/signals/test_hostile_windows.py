"""Files that reach outside themselves, claim what they cannot hold, or are something else: one true line, no memory."""

import resource
import subprocess
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy

from rtserve.errors import InputError
from rtserve.signals.caches import is_cache, read_cache
from rtserve.signals.describe import describe_windows
from rtserve.signals.windows import WindowSet, load_windows, save_windows

N = 12
X = (1e-5 * np.random.default_rng(0).standard_normal((N, 2, 10))).astype("f4")
Y = np.arange(N, dtype="f4")


def outside(folder, kind, names):
    """An .h5 of windows whose data set `subject` (or X, y) is somewhere else."""
    secret = folder / "secret"
    secret.write_bytes(b"root:x:0:0:" * 400)
    with h5py.File(folder / "other.h5", "w") as archive:
        archive["X"], archive["y"], archive["subject"] = X, Y, np.array([b"secret"] * N)
    path = folder / "w.h5"
    with h5py.File(path, "w") as archive:
        for name, value in {"X": X, "y": Y, "subject": np.array([b"s"] * N), "unit": b"V"}.items():
            if name not in names:
                archive[name] = value
            elif kind == "external storage":
                archive.create_dataset(name, value.shape, value.dtype, external=[(str(secret), 0, value.nbytes)])
            elif kind == "external link":
                archive[name] = h5py.ExternalLink("other.h5", f"/{name}")
            elif kind == "soft link":
                archive[name] = h5py.SoftLink("/somewhere")
            else:
                layout = h5py.VirtualLayout(shape=value.shape, dtype=value.dtype)
                layout[...] = h5py.VirtualSource(str(folder / "other.h5"), name, shape=value.shape, dtype=value.dtype)
                archive.create_virtual_dataset(name, layout)
    return path


@pytest.mark.parametrize("name", ["X", "y", "subject"])
@pytest.mark.parametrize("kind", ["external storage", "external link", "soft link", "virtual data set"])
def test_what_is_stored_elsewhere_is_refused_by_name(kind, name, tmp_path):
    path = outside(tmp_path, kind, {name})
    for read in (load_windows, describe_windows):
        with pytest.raises(InputError, match=f"^{name} in .*w.h5 .*{kind}"):
            read(path)


def test_a_cache_is_not_read_elsewhere_either(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as archive:
        archive["eeg"] = X
    with h5py.File(tmp_path / "c.h5", "w") as archive:
        archive["eeg"], archive["labels"] = h5py.ExternalLink("other.h5", "/eeg"), Y
    assert is_cache(tmp_path / "c.h5")
    with pytest.raises(InputError, match=r"eeg in .* external link"):
        read_cache(tmp_path / "c.h5")


def claim(path, key, shape, dtype="<f4", *, data=b"", pack=zipfile.ZIP_STORED):
    """An .npz one array of which has a header and other bytes than it says."""
    with zipfile.ZipFile(path, "w", pack) as archive:  # noqa: TID251 -- to make files that must be refused
        for name, array in {"X": X, "y": Y, "unit": np.array("V")}.items():
            with archive.open(f"{name}.npy", "w") as handle:
                if name != key:
                    npy.write_array(handle, np.asanyarray(array))
                    continue
                npy.write_array_header_1_0(handle, {"descr": dtype, "fortran_order": False, "shape": shape})
                handle.write(data)
    return path


def bombs(folder):
    huge = (10_000_000, 129, 200)
    with h5py.File(folder / "x.h5", "w") as archive:
        archive.create_dataset("X", huge, "f4", chunks=(100, 129, 200), compression="gzip")
        archive["y"] = np.zeros(10)
    with h5py.File(folder / "y.h5", "w") as archive:
        archive["X"] = X
        archive.create_dataset("y", (10**12,), "f8", chunks=(1000,))
    with h5py.File(folder / "text.h5", "w") as archive:
        archive["X"], archive["y"] = X, Y
        archive.create_dataset("subject", (10**9,), h5py.string_dtype(), chunks=(1000,))
    with h5py.File(folder / "chunk.h5", "w") as archive:
        zeros = archive.create_dataset("X", (4000, 129, 200), "f4", chunks=(4000, 129, 200), compression="gzip")
        zeros[0, 0, :1] = 1
        archive["y"] = np.zeros(4000)
    claim(folder / "x.npz", "X", huge)
    claim(folder / "y.npz", "y", (10**12,), data=b"\0" * 100)
    claim(folder / "shape.npz", "y", (2**40, 2**40))
    claim(folder / "packed.npz", "X", (4000, 129, 200), data=bytes(4 * 4000 * 129 * 200), pack=zipfile.ZIP_DEFLATED)
    claim(folder / "many.npz", "y", (10**8,), dtype="|b1", data=bytes(10**8), pack=zipfile.ZIP_DEFLATED)
    return [folder / f for f in ("x.h5", "y.h5", "text.h5", "chunk.h5")] + sorted(folder.glob("*.npz"))


def test_claims_are_refused_before_anything_is_read(tmp_path):
    for path in bombs(tmp_path):
        for read in (load_windows, describe_windows):
            tracemalloc.start()
            with pytest.raises(InputError, match="claims") as caught:
                read(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 4 << 20, path.name
            assert path.name in caught.value.message
            assert len(caught.value.message.splitlines()) == 1


def test_the_command_says_it_in_one_line_with_little_memory(tmp_path):
    paths = [bombs(tmp_path)[0], tmp_path / "packed.npz"]
    code = "import sys; from rtserve.cli.main import main; main(sys.argv[1:])"
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # noqa: E731
    for path in paths:
        done = subprocess.run(
            [sys.executable, "-c", code, "inspect", path], capture_output=True, text=True, preexec_fn=limit, check=False
        )
        assert done.returncode == 2, done.stderr
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: np.savez(p, X=X, y=np.array([{}, 1], object)), "holds Python objects .a pickle., which are never"),
        (
            lambda p: (np.save(p.with_suffix(".npy"), X), p.with_suffix(".npy").rename(p)),
            r"not a window set but one \.npy array",
        ),
        (lambda p: p.write_bytes(b"MATLAB 5.0 MAT-file, Platform"), "but a MATLAB file"),
        (lambda p: p.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600)), "but a MATLAB 7.3 file"),
        (
            lambda p: p.write_bytes(bytes.fromhex("000000640000001f00000014") + bytes(99)),
            "but a FIF file without epochs",
        ),
        (lambda p: p.write_text("a,b,c\n1,2,3\n"), "but a text file; it begins 'a,b,c'"),
        (lambda p: p.write_bytes(bytes(range(20)) * 9), "neither .npz nor .h5"),
        (lambda p: p.write_bytes(b"\x80\x04\x95abc"), "but a pickle, which is never opened"),
        (lambda p: p.write_bytes(b""), "it is empty"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "is not an HDF5 file, or a damaged one"),
        (lambda p: np.savez(p, X=X), "has no y; it has X"),
        (lambda p: np.savez(p, X=X.astype("c8"), y=Y), "X in .* is complex64"),
        (lambda p: np.savez(p, X=X[0], y=Y), r"X in .* is float32 \(2, 10\)"),
        (lambda p: np.savez(p, X=X, y=Y, unit="furlong"), "unknown unit 'furlong'"),
    ],
)
def test_what_a_file_really_is(make, says, tmp_path):
    path = tmp_path / "w.npz"
    make(path)
    with pytest.raises(InputError, match=says) as caught:
        load_windows(path)
    assert "w.npz" in caught.value.message


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path):
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from rtserve.signals.windows import WindowSet, save_windows\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "X = np.full((400, 4, 50), 1e-5, 'f4')\n"
        "save_windows(sys.argv[1], WindowSet(X=X, y=np.zeros(400)), force=True)"
    )
    for name in ("w.npz", "w.h5"):
        path = save_windows(tmp_path / name, WindowSet(X=X, y=Y))
        before = path.read_bytes()
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"InputError: {path} could not be written" in done.stderr
        assert path.read_bytes() == before
        assert list(tmp_path.glob(".rtserve-*")) == []
