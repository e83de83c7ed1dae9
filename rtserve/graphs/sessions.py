"""Sessions of onnxruntime on the CPU, by the one set of options that each use of them wants."""

from __future__ import annotations

from typing import Any

__all__ = ["cpu_session", "quiet_session"]

PROVIDERS = ["CPUExecutionProvider"]


def cpu_session(model: bytes, *, threads: int = 1, arena: bool = True) -> Any:
    """Return a session as answers and times are taken from: errors are logged, one thread does not spin."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    return onnxruntime.InferenceSession(model, options, providers=PROVIDERS)


def quiet_session(model: bytes, *, rewritten: bool = True) -> Any:
    """Return a session of one thread that logs nothing; onnxruntime rewrites nothing of it where not `rewritten`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not rewritten:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
