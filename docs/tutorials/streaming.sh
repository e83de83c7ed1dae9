# Answers while a recording goes on
#
# A network of windows is run every 100 ms on the last seconds. Most of what it computes of a window it has computed of the one
# before; `rtserve stream` writes the step that takes the new samples alone and gives the window's own answer.

# %%
# ## A recording and a network
# Half a minute of noise in 8 channels at 100 Hz, and a network of windows of two seconds, with weights as they are initialised.
cat > make.py <<'END'
import mne
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_chans, n_times, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(n_chans, 16, 9, padding=4), nn.ReLU(), nn.Conv1d(16, 16, 9, padding=4), nn.ReLU()
        )
        self.head = nn.Linear(16, n_outputs)

    def forward(self, x):
        return self.head(self.layers(x).mean(-1))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Net(8, 200, 2).state_dict(), "net.pth")
    names = [f"EEG{i}" for i in range(1, 9)]
    noise = 2e-5 * np.random.default_rng(0).standard_normal((8, 3000))
    mne.io.RawArray(noise, mne.create_info(names, 100.0, "eeg"), verbose="error").save("night_raw.fif", verbose="error")
END
python make.py
rtserve export net.pth --exporter make.py:Net --set n_chans=8 --set n_times=200 --set n_outputs=2 \
  --set 'ch_names=["EEG1","EEG2","EEG3","EEG4","EEG5","EEG6","EEG7","EEG8"]' --unit uV --sfreq 100 --target score -o N.onnx

# %%
# ## The step
# Before the file is written it is run over recordings with noise, a flat channel and a stretch of NaN, and compared with the
# windows. `--explain` says for every layer what is kept and what is computed anew; a layer that mixes all moments is a frontier.
rtserve stream N.onnx --hop 10 -o S.onnx --explain

# %%
# ## The recording, hop after hop
# Every 50th answer is computed whole as well and compared.
rtserve run S.onnx --source night_raw.fif --window N.onnx --verify-every 50 -o answers.csv
head -n 4 answers.csv

# %%
# ## In a program of your own
# The step keeps its state between calls; until a whole window was seen it answers `None`.
cat > loop.py <<'END'
import numpy as np
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph

runner = StepRunner(StepGraph.load("S.onnx"))
rng = np.random.default_rng(1)
for hop in range(22):
    samples = rng.normal(scale=20, size=(1, 8, 10)).astype("float32")  # microvolts
    answer = runner.push(samples)
    if hop in (0, 18, 19, 20, 21):
        print(hop, answer)
END
python loop.py

# %%
# Live streams, filters and what breaks the order of samples are on [their page](../streaming.md).
