"""Fourier transforms as products with constant matrices, which are computed in float64."""

from __future__ import annotations

import numpy as np

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation

__all__: list[str] = []


@rewrite("DFT")
def dft(draft: Draft, operation: Operation) -> bool:
    """DFT (axis by attribute in opset 17, by input since 20) of real or complex numbers, both ways."""
    name, attrs = operation.inputs[0], operation.attrs
    shape = draft.shape(name)
    rank, parts = len(shape), shape[-1]
    axis = int(attrs.get("axis", 1)) if draft.flow.opset < 20 else -2
    if operation.has(2):
        axis = int(draft.known(operation, 2, "an axis").reshape(-1)[0])
    axis %= rank
    inverse, onesided = bool(attrs.get("inverse", 0)), bool(attrs.get("onesided", 0))
    n = shape[axis]
    length = 2 * (n - 1) if inverse and onesided else n
    if operation.has(1):
        length = int(draft.known(operation, 1, "a length").reshape(-1)[0])
    taken = min(n, length // 2 + 1 if inverse and onesided else length)
    name = draft.cut(name, axis, 0, taken)
    others = [a for a in range(rank - 1) if a != axis]
    last = draft.transpose(name, [*others, axis, rank - 1])
    rows = draft.reshape(last, (*(shape[a] for a in others), taken * parts))
    matrix = _matrix(taken, parts, length, inverse=inverse, onesided=onesided)
    bins, made = matrix.shape[2:]
    product = draft.dense(rows, matrix.reshape(taken * parts, bins * made))
    whole = draft.reshape(product, (*(shape[a] for a in others), bins, made))
    order = [others.index(a) if a != axis else rank - 2 for a in range(rank - 1)]
    draft.transpose(whole, [*order, rank - 1], out=operation.outputs[0])
    return True


def _matrix(n: int, parts: int, length: int, *, inverse: bool, onesided: bool) -> np.ndarray:
    """Return the (n, parts, bins, parts) matrix of a transform: what each part of each sample gives to each of each bin.

    It is read off numpy's own transform of every unit sample in float64.
    """
    unit = np.eye(n, dtype=np.complex128)
    given = np.stack([unit, 1j * unit][:parts], axis=1).reshape(n * parts, n)
    if inverse and onesided:
        answer = np.fft.irfft(given, length, axis=-1)[..., None]
    elif onesided:
        answer = _parts(np.fft.rfft(given.real, length, axis=-1) if parts == 1 else _first_half(given, length))
    else:
        answer = _parts((np.fft.ifft if inverse else np.fft.fft)(given, length, axis=-1))
    found: np.ndarray = answer.reshape(n, parts, *answer.shape[1:])
    return found


def _first_half(given: np.ndarray, length: int) -> np.ndarray:
    half: np.ndarray = np.fft.fft(given, length, axis=-1)[:, : length // 2 + 1]
    return half


def _parts(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], axis=-1)


@rewrite("STFT")
def stft(draft: Draft, operation: Operation) -> bool:
    """STFT (opset 17) as a convolution: a filter for each part of each bin, with the window multiplied in."""
    name = operation.inputs[0]
    signals, samples, parts = (*draft.shape(name), 1)[:3]
    step = int(draft.known(operation, 1, "a step").reshape(-1)[0])
    window = draft.known(operation, 2, "a window").astype(np.float64) if operation.has(2) else None
    length = window.size if window is not None else 0
    if operation.has(3):
        length = int(draft.known(operation, 3, "a length").reshape(-1)[0])
    onesided = bool(operation.attrs.get("onesided", 1))
    matrix = _matrix(length, parts, length, inverse=False, onesided=onesided)
    if window is not None:
        matrix = matrix * window[:, None, None, None]
    bins = matrix.shape[2]
    filters = np.transpose(matrix, (2, 3, 1, 0)).reshape(2 * bins, parts, length)
    frames = (samples - length) // step + 1
    rows = draft.transpose(draft.reshape(name, (signals, samples, parts)), [0, 2, 1])
    given = draft.put("Conv", [rows, draft.keep(filters)], (signals, 2 * bins, frames), strides=[step])
    apart = draft.reshape(given, (signals, bins, 2, frames))
    draft.transpose(apart, [0, 3, 1, 2], out=operation.outputs[0])
    return True
