# A member from scikit-learn
#
# A pipeline of scikit-learn, pyRiemann and MNE becomes a graph in standard operators, which is compared with the library itself
# and fused with networks as any other member. No joblib travels.
#
# needs: module pyriemann

# %%
# ## A fitted pipeline
# Covariances of 6 channels, their tangent space, a linear discriminant. The windows are made up: three classes that mix the
# channels differently.
cat > fit.py <<'END'
import joblib
import numpy as np
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

rng = np.random.default_rng(0)
mixes = 0.3 * rng.standard_normal((3, 6, 6)) + 2 * np.eye(6)
y = np.arange(90) % 3
X = mixes[y] @ rng.standard_normal((90, 6, 128))
pipeline = make_pipeline(Covariances("oas"), TangentSpace(), LinearDiscriminantAnalysis())
pipeline.fit(X[:60], np.array(["feet", "left", "right"])[y[:60]])
joblib.dump(pipeline, "pipeline.joblib")
np.savez("test.npz", X=X[60:].astype("float32"), y=y[60:], subject=np.arange(30) % 6)
END
python fit.py

# %%
# ## The graph
# Loading a joblib runs the code in it, so rtserve loads it in a sandbox. This file is our own, and `--trusted` does without one.
rtserve export pipeline.joblib --exporter exporters/sklearn_pipeline.py --set n_chans=6 --set n_times=128 \
  --unit uV --sfreq 128 --target class --trusted -o P.onnx

# %%
# ## Its score
# The windows are given the same unit and names of classes; both files must agree on them, or nothing is scored.
rtserve annotate test.npz --unit uV --sfreq 128 --target class --classes feet,left,right -o T.npz
rtserve evaluate P.onnx --data T.npz

# %%
# ## Beside a network
# An EEGNet for the same windows would be exported as [here](braindecode_models.py), and both fused with
# `rtserve fuse P.onnx N.onnx --merge mean-probabilities -o F.onnx`. Here the pipeline is fused with a view of its own.
rtserve fuse P.onnx --views identity,roll:+4 --merge mean-probabilities -o F.onnx
