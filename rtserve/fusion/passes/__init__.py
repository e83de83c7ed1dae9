"""The rewrites, one file each; `rtserve.fusion.passes.order` says in which order they run."""
