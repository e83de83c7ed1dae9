# Five seeds and views: are they worth it?
#
# More members and views cost time, always. Whether they gain anything on people that no one has trained on is a question with
# an answer, and the answer is often: not told apart. This page asks it.

# %%
# ## Five seeds
rtserve simulate -o W.npz --windows 500 --r 0.6 --seed 3
rtserve train W.npz --seeds 1,2,3,4,5 --max-epochs 2 -o run
for seed in 1 2 3 4 5; do
  rtserve export run/seed$seed/best.pth --exporter rtserve.training.networks:exporter -o M$seed.onnx &>export.log
done

# %%
# ## All of them, with three views
# `time-reverse` is among them on purpose: what is predicted is when something happens, and a window that is played backwards
# says something else. rtserve refuses such a view for such a target.
rtserve fuse M?.onnx --views identity,roll:+3,time-reverse -o F.onnx || echo "exit code $?"

# %%
# So another one takes its place.
rtserve fuse M?.onnx --views identity,roll:+3,sign-flip -o F.onnx

# %%
# ## Each view and each member on trial
# Each is taken out, and the graph without it is scored on the same windows and the same draws of people. A difference is given
# with its interval, with what it costs in time, and with a p that is corrected for all verdicts of the report: many looks at
# nothing show something by chance. [What the words mean](../concepts/verdicts.md).
rtserve evaluate F.onnx --data W.npz --split test --by view,member

# %%
# ## What may be left out
# `search` chooses members and views on some people and tells the gain on others, who had no say in the choice.
rtserve search M?.onnx --views identity,roll:+3 --data W.npz --split valid -o plan.toml
