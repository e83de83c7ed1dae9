"""Small windows that a network can learn from in a second: the first channel's power follows the target."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet


def small_windows(n=240, n_chans=3, n_times=40, subjects=24, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n)
    noise = rng.standard_normal((n, n_chans, n_times))
    wave = np.sin(2 * np.pi * 0.2 * np.arange(n_times) + rng.uniform(0, 6.28, (n, 1)))
    noise[:, 0] += strength * (2 + np.clip(y, -2, 2))[:, None] * wave
    subject = np.sort(np.array([f"s{i % subjects:02d}" for i in range(n)]))
    return WindowSet(
        X=(1e-5 * noise).astype("f4"),
        y=(1.6 + 0.4 * y).astype("f4"),
        subject=subject,
        run_id=np.array([f"{s}_r{i % 2}" for i, s in enumerate(subject)]),
        target="response_time",
        sfreq=100.0,
    )


@pytest.fixture
def windows():
    return small_windows()


@pytest.fixture
def split(windows):
    return make_split(windows)
