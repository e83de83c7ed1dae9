# A contest: from data to a zip
#
# The 2025 EEG Foundation Challenge asks for two networks in one zip. Here both are trained on simulated windows, in a few
# seconds, so that the whole way can be seen: what is scored at the end is not worth uploading, and the zip would be accepted.
# With your own data the first step is `rtserve prepare` ([recordings](../recordings.md), [targets](../targets.md)).

# %%
# ## Windows, networks, graphs
# Challenge 1 predicts a response time, challenge 2 a factor of psychopathology.
rtserve simulate -o one.npz --windows 300 --r 0.46 --seed 1
rtserve simulate -o two.npz --windows 300 --r 0.21 --seed 2 --target externalizing
rtserve train one.npz --seeds 1 --max-epochs 2 -o run1
rtserve train two.npz --seeds 1 --max-epochs 2 -o run2
rtserve export run1/seed1/best.pth --exporter rtserve.training.networks:exporter -o one.onnx &>export.log
rtserve export run2/seed1/best.pth --exporter rtserve.training.networks:exporter -o two.onnx &>export.log

# %%
# ## The recipe
# A submission is text: which members with which digest, which views, how they are merged. A file that is not the one that was
# measured is refused. Every key is in the [reference](../../rtserve/submission/recipe.py).
cat > submission.toml <<END
profile = "eeg2025"

[challenges.1]
members = [{ graph = "one.onnx", sha256 = "$(sha256sum one.onnx | cut -c1-64)" }]
views = ["identity", "roll:+3"]

[challenges.2]
members = [{ graph = "two.onnx", sha256 = "$(sha256sum two.onnx | cut -c1-64)" }]
END

# %%
# ## The zip
# It runs with torch and the standard library alone, and carries reference windows with the answers that it must give. The same
# recipe makes the same bytes.
rtserve build submission.toml -o submission.zip

# %%
# ## Checked as the scorer would
# The zip is unpacked and run in a sandbox, by the calls that the scorer makes, in the order in which it makes them.
rtserve check submission.zip --profile eeg2025

# %%
# ## Is it what was measured?
rtserve verify submission.zip

# %%
# ## What a zip dies of
# One thing that no local test asks about: the folder was zipped instead of its content. Every rule with its cause and cure is in
# the [reference](../../rtserve/submission/checks).
mkdir mine && cd mine && unzip -q ../submission.zip && cd ..
python -m zipfile -c wrong.zip mine
rtserve check wrong.zip --profile eeg2025 || echo "exit code $?"
