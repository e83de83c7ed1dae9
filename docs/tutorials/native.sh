# C without Python
#
# A graph as a shared library of its own, which needs neither Python nor an engine, and a program in C that calls it.
#
# needs: command cc

# %%
# ## A graph
# A small network of 4 channels with weights as they are initialised, and a view of it.
cat > small.py <<'END'
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_chans, n_times, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(n_chans, 8, 7, padding=3), nn.ELU(), nn.AvgPool1d(5))
        self.head = nn.Linear(8 * (n_times // 5), n_outputs)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Net(4, 100, 1).state_dict(), "net.pth")
END
python small.py
rtserve export net.pth --exporter small.py:Net --set n_chans=4 --set n_times=100 --set n_outputs=1 \
  --unit uV --sfreq 100 --target score -o N.onnx
rtserve fuse N.onnx --views identity,roll:+5 --engine native -o F.onnx

# %%
# ## The library
# The code holds what several generations of processors have, takes the best that is there, and is compared with the graph in
# float64 before anything is written.
rtserve compile F.onnx -o F.so
ls F.*

# %%
# ## The program
# The interface is one header. The caller gives the room, nothing is allocated, and any number of threads may run one set of
# weights.
PACKAGE=$(python -c "import rtserve, pathlib; print(pathlib.Path(rtserve.__file__).parent)")
cat > answer.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include "rtserve_native.h"

static float *room(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

int main(void) {
  const int level = rtserve_best_level();
  const size_t n_weights = rtserve_weight_floats(), n_window = rtserve_window_floats(), n_answer = rtserve_answer_floats();
  float *weights = room(n_weights), *packed = room(rtserve_packed_floats(level));
  float *scratch = room(rtserve_scratch_floats(level)), *x = room(n_window), *y = room(n_answer);
  FILE *file = fopen("F.weights", "rb");
  if (level < 0 || !file || fread(weights, sizeof(float), n_weights, file) != n_weights) return 1;
  fclose(file);
  rtserve_pack(level, weights, packed);
  while (fread(x, sizeof(float), n_window, stdin) == n_window) {
    rtserve_run(level, packed, scratch, x, y, 1);
    for (size_t i = 0; i < n_answer; i++) printf("%.6f\n", y[i]);
  }
  free(weights), free(packed), free(scratch), free(x), free(y);
  return 0;
}
END
cc -O2 -I "$PACKAGE/native" answer.c ./F.so -Wl,-rpath,'$ORIGIN' -o answer
python -c "import numpy; numpy.random.default_rng(0).normal(scale=20, size=(3, 4, 100)).astype('<f4').tofile('windows.f32')"
./answer < windows.f32

# %%
# ## The same numbers from onnxruntime
cat > compare.py <<'END'
import numpy as np
import onnxruntime

x = np.fromfile("windows.f32", "<f4").reshape(3, 4, 100)
session = onnxruntime.InferenceSession("F.onnx")
for answer in session.run(None, {session.get_inputs()[0].name: x})[0][:, 0]:
    print(f"{answer:.6f}")
END
python compare.py

# %%
# What the code promises, how it is threaded and how it travels in a zip is on [its page](../native.md).
