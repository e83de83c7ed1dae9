"""Windows that stay in their file are the windows: every way of reading them gives the array they were saved from."""

import copy

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.signals import hdf5, npz, soundness, stored
from rtserve.signals.describe import describe_windows
from rtserve.signals.hdf5 import read_hdf5
from rtserve.signals.labels import joined
from rtserve.signals.npz import read_npz
from rtserve.signals.splits import Split, find_leaks
from rtserve.signals.stored import StoredArray, blocks, fingerprints
from rtserve.signals.windows import WindowSet, load_windows, save_windows

N, SHAPE = 37, (3, 20)
RNG = np.random.default_rng(0)
X = (1e-5 * RNG.standard_normal((N, *SHAPE))).astype("f4")
Y = RNG.uniform(0, 2, N).astype("f4")


def write(path, kind):
    """Write X in one of the ways a file may hold it."""
    if kind == "savez":
        np.savez(path.with_suffix(".npz"), X=X, y=Y, unit="V")
    elif kind == "compressed":
        np.savez_compressed(path.with_suffix(".npz"), X=X, y=Y, unit="V")
    elif kind == "double":
        np.savez(path.with_suffix(".npz"), X=X.astype("f8"), y=Y, unit="V")
    elif kind == "big-endian":
        np.savez(path.with_suffix(".npz"), X=X.astype(">f4"), y=Y, unit="V")
    elif kind == "h5":
        save_windows(path.with_suffix(".h5"), WindowSet(X=X, y=Y))
    else:
        options = {"gzip": {"chunks": (5, 2, 7), "compression": "gzip"}, "plain": {}, "double-h5": {"dtype": "f8"}}[
            kind
        ]
        with h5py.File(path.with_suffix(".h5"), "w") as archive:
            archive.create_dataset("X", data=X, **options)
            archive["y"], archive["unit"] = Y, b"V"
    return next(path.parent.glob(path.name + ".*"))


KINDS = ("savez", "compressed", "double", "big-endian", "h5", "gzip", "plain", "double-h5")


@pytest.fixture(scope="module", params=KINDS)
def lazy(request, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("stored") / "w", request.param)
    return (read_npz if path.suffix == ".npz" else read_hdf5)(path)["X"]


@pytest.fixture(scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "BLOCK_BYTES", 4 * 60 * 8)
        patch.setattr(stored, "WHOLE_BYTES", 4 * 60 * 8)
        yield


KEYS = (
    np.s_[5],
    np.s_[-1],
    np.s_[3:30],
    np.s_[::-2],
    np.s_[:, :2],
    np.s_[..., 4:9],
    np.s_[2:9, 1],
    np.s_[4, 1, 3],
    np.s_[[30, 2, 2, 31]],
    np.s_[Y > 1],
    np.s_[np.array([], int)],
    np.s_[np.array([7, 3]), :, ::5],
)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_that_of_the_array(lazy, small_blocks, key):
    assert isinstance(lazy, StoredArray)
    assert lazy.shape == X.shape
    assert lazy.dtype == X.dtype
    assert np.array_equal(lazy[key], X[key])


@given(index=st.lists(st.integers(-N, N - 1), max_size=50), then=st.lists(st.integers(0, 5), max_size=4))
def test_parts_of_parts(lazy, small_blocks, index, then):
    index = np.array(index, int)
    part = lazy.take(index)
    assert np.array_equal(np.asarray(part), X[index])
    if len(index) > 5:
        assert np.array_equal(part.take(np.array(then, int))[:], X[index][np.array(then, int)])


def test_blocks_factors_copies_and_fingerprints(lazy, small_blocks):
    assert np.array_equal(np.concatenate(list(blocks(lazy, 4))), X)
    assert [len(block) for block in blocks(lazy)] == [8, 8, 8, 8, 5]
    assert np.array_equal(np.asarray(lazy.scaled(1e6)), X * np.float32(1e6))
    assert np.array_equal(copy.deepcopy(lazy)[3:9], X[3:9])
    assert (fingerprints(lazy) == fingerprints(X)).all()
    assert len(set(fingerprints(X).tolist())) == N


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_that_stays_in_its_file_is_the_same_set(kind, tmp_path, small_blocks):
    path = write(tmp_path / "w", kind)
    lazy, whole = load_windows(path), WindowSet(X=X, y=Y)
    assert isinstance(lazy.X, StoredArray)
    assert lazy.digest == whole.digest
    part = np.array([30, 4, 4, 1])
    assert lazy.take(part).digest == whole.take(part).digest
    for suffix in (".npz", ".h5"):
        again = save_windows(tmp_path / f"again{suffix}", lazy)
        assert load_windows(again).digest == whole.digest
    assert (tmp_path / "again.npz").read_bytes() == save_windows(tmp_path / "b.npz", load_windows(again)).read_bytes()


def test_microvolt_in_a_file_is_volts_when_read(tmp_path, small_blocks):
    np.savez(tmp_path / "w.npz", X=X * np.float32(1e6), y=Y, unit="uV")
    assert load_windows(tmp_path / "w.npz").digest == WindowSet(X=X * np.float32(1e6) * np.float32(1e-6), y=Y).digest


@pytest.mark.parametrize("kind", ["savez", "compressed", "h5"])
def test_a_flipped_bit_is_found(kind, tmp_path, small_blocks):
    path = write(tmp_path / "w", kind)
    data = bytearray(path.read_bytes())
    place = data.find(X[20].tobytes()[:64]) if kind != "compressed" else len(data) // 3
    data[place + 8] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|not a window set|cannot be read"):
        load_windows(path).digest  # noqa: B018


def test_a_file_that_changes_meanwhile_is_not_read_on(tmp_path, small_blocks):
    path = write(tmp_path / "w", "savez")
    lazy = load_windows(path)
    np.savez(path, X=X[::-1], y=Y, unit="V")
    with pytest.raises(InputError, match="changed while it was being read"):
        lazy.X[0]


@pytest.mark.parametrize("kind", ["savez", "compressed", "h5"])
def test_nothing_reads_more_than_a_block(kind, tmp_path, small_blocks, monkeypatch):
    most = []
    for rows in (hdf5._Rows, npz._PlainRows, npz._PackedRows):
        read = rows.read_into
        monkeypatch.setattr(
            rows, "read_into", lambda s, start, out, read=read: (most.append(len(out)), read(s, start, out))
        )
    path = write(tmp_path / "w", kind)
    lazy = load_windows(path)
    describe_windows(path)
    find_leaks(lazy, Split(marks=np.array(["train", "test"])[np.arange(N) % 2], by="window"))
    for suffix in (".npz", ".h5"):
        save_windows(tmp_path / f"copy{suffix}", lazy.take(np.arange(N)[::2]))
    assert lazy.take(np.arange(30)).digest
    assert max(most) == 8


def test_the_index_of_a_file_of_many_windows_stays_small(tmp_path):
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as archive:
        archive.create_dataset("X", (5000, 2, 4), "<f4", chunks=(1, 2, 4), fletcher32=True)[:] = 1.0
        kept = archive.id.get_mdc_size()[2]
    lazy = read_hdf5(path)["X"]
    for start in range(0, 5000, 500):
        assert (lazy[start : start + 500] == 1).all()
    used = lazy._rows._open[1].file.id.get_mdc_size()[2]
    assert used <= 2 * hdf5._INDEX_BYTES < kept


@given(n=st.integers(1, 40), sampled=st.integers(1, 400), block=st.integers(1, 7))
def test_the_typical_sample_is_the_median_of_those_drawn(n, sampled, block):
    x = RNG.standard_normal((n, 3, 5)).astype("f4")
    stride = max(1, x.size // sampled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundness, "_SAMPLED", sampled)
        patch.setattr(stored, "BLOCK_BYTES", 4 * 15 * block)
        found = soundness.survey(x)
    assert found.typical == np.median(np.abs(x.ravel()[::stride]))


@pytest.mark.parametrize("n", [0, 1, 4096, 4097, 9000])
def test_labels_are_joined_as_one_text(n):
    labels = np.array([f"sub-{i}ä" for i in range(n)], "U")
    assert b"".join(joined(labels)) == "\0".join(labels.tolist()).encode()
