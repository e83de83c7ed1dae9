"""Sessions of onnxruntime on the CPU, by the one set of options that each use of them wants."""

from __future__ import annotations

from typing import Any

__all__ = ["cpu_session", "quiet_session"]

PROVIDERS = ["CPUExecutionProvider"]
FLOAT32_ONLY = "MatmulTransposeFusion"
"""A rewrite of onnxruntime 1.23 to 1.25 that makes of a transposed matrix and a product an operator which they have for
float32 alone: a sound graph with such a product in float64 does not load there (tried: 1.23.2 to 1.25.0 fail, 1.26 not)."""


def cpu_session(model: bytes, *, threads: int = 1, arena: bool = True) -> Any:
    """Return a session as answers and times are taken from: errors are logged, one thread does not spin."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    return _loaded(model, options)


def quiet_session(model: bytes, *, rewritten: bool = True) -> Any:
    """Return a session of one thread that logs nothing; onnxruntime rewrites nothing of it where not `rewritten`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not rewritten:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _loaded(model, options)


def _loaded(model: bytes, options: Any) -> Any:
    """Return a session, without the one rewrite where an older onnxruntime fails at what that rewrite has made."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
    except Exception as error:
        if FLOAT32_ONLY not in str(error):
            raise
    return onnxruntime.InferenceSession(model, options, providers=PROVIDERS, disabled_optimizers=[FLOAT32_ONLY])
