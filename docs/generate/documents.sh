# What documents look like
#
# Each cell ends with one command that prints a document; what is seen of it is in the reference.

# %%
rtserve simulate -o W.npz --windows 240 --r 0.5 --seed 1 --json 2>/dev/null

# %%
rtserve inspect W.npz --json

# %%
rtserve train W.npz --seeds 1 --max-epochs 1 -o run --json 2>/dev/null

# %%
rtserve export run/seed1/best.pth --exporter rtserve.training.networks:exporter -o A.onnx --json 2>/dev/null

# %%
rtserve fuse A.onnx --views identity,roll:+3 --engine torch -o F.onnx --json 2>/dev/null

# %%
rtserve stream A.onnx --hop 20 -o S.onnx --json 2>/dev/null

# %%
rtserve run S.onnx --source synthetic --for 3 --fast --json 2>/dev/null

# %%
rtserve evaluate A.onnx --data W.npz --split test --json 2>/dev/null

# %%
rtserve bench A.onnx --rounds 3 --json 2>/dev/null

# %%
rtserve compare A.onnx F.onnx --data W.npz --split test --json 2>/dev/null

# %%
rtserve list views --json

# %%
rtserve doctor --json

# %%
rtserve profiles list --json

# %%
rtserve profiles show eeg2025 --json

# %%
rtserve simulate -o E.npz --windows 120 --r 0.2 --seed 2 --target externalizing &>/dev/null
rtserve train E.npz --seeds 1 --max-epochs 1 -o run2 &>/dev/null
rtserve export run2/seed1/best.pth --exporter rtserve.training.networks:exporter -o C.onnx &>/dev/null
cat > submission.toml <<END
profile = "eeg2025"

[challenges.1]
members = [{ graph = "A.onnx", sha256 = "$(sha256sum A.onnx | cut -c1-64)" }]

[challenges.2]
members = [{ graph = "C.onnx", sha256 = "$(sha256sum C.onnx | cut -c1-64)" }]
END
rtserve build submission.toml -o submission.zip --json 2>/dev/null

# %%
rtserve check submission.zip --no-run --json 2>/dev/null

# %%
rtserve verify submission.zip --no-replay --json 2>/dev/null
