# Start: five minutes
#
# From nothing to a fused graph, its score and its speed. It needs no data and no network: the windows are simulated, with a
# known amount of information in them, so that one can tell what a score means.
#
# `pip install .` in a checkout brings `rtserve`; `rtserve doctor` says what this machine has, and `rtserve demo` goes the whole
# way by itself, on to a contest's zip.

# %%
# ## Windows
# 1000 windows of 129 channels and two seconds, in the size of the 2025 contest. The line with the oracle is what a perfect
# network could reach here.
rtserve simulate -o W.npz --windows 1000 --r 0.6 --seed 1

# %%
# ## Networks
# Two seeds of the default network, a few epochs each. What is scored are people that no epoch has seen. Beside every score
# stands what predicting the mean would have scored, and where the two cannot be told apart, the line says so.
rtserve train W.npz --seeds 1,2 --max-epochs 3 -o run

# %%
# ## Graphs
# Each checkpoint becomes an ONNX graph, and is compared with its network before it is written: on noise of many sizes, with
# flat channels, at several batch sizes.
for seed in 1 2; do
  rtserve export run/seed$seed/best.pth --exporter rtserve.training.networks:exporter -o M$seed.onnx
done

# %%
# ## One graph of two networks and three views
# Six branches become one file. It gives the mean of all six to within rounding, which is checked before it is written, and it
# costs fewer multiply-adds than six networks, because views share what they compute alike.
rtserve fuse M1.onnx M2.onnx --views identity,roll:+3,roll:-3 -o F.onnx

# %%
# ## What it is worth
# The score has an interval (over people) and a signature: two scores whose signatures differ are never subtracted.
rtserve evaluate F.onnx --data W.npz --split test

# %%
# ## What it costs
# Timed by turns with six runs of one member, so that the ratio means something on a machine that is busy with other things.
rtserve bench F.onnx --against M1.onnx --loop 6 --rounds 18

# %%
# ## Where to go on
#
# - [From data to a zip](contest.sh) for a contest.
# - [Checkpoints of braindecode](braindecode_models.py), [a module of your own](own_network.py), [somebody's .onnx](foreign.py).
# - [Are five seeds and views worth it?](worth.sh)
# - [Answers while a recording goes on](streaming.sh), [C without Python](native.sh).
