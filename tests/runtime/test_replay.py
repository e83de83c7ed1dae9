"""Which calls replay a CUDA graph and which run plainly; on a GPU, that nobody can tell but by the time."""

import copy
import pickle  # noqa: TID251  (our own module, made a line above)
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from rtserve.graphs.graph import Graph
from rtserve.graphs.plan import graph_to_plan
from rtserve.runtime import executor
from rtserve.runtime.executor import PlanModule, Program
from rtserve.runtime.precision import SWITCHES, computing_in
from rtserve.runtime.replay import MOST, Replays
from tests.runtime.test_executor import CONVNET, with_weights


def module(**changes):
    plan, tensors = graph_to_plan(Graph.from_bytes(with_weights(CONVNET).SerializeToString()))
    return PlanModule({**plan, **changes}, tensors).eval()


def windows(batch, seed=0):
    return torch.randn(batch, 3, 16, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """Stands for the device: says which batch sizes were captured and replayed."""

    def __init__(self, fails=False):
        self.captured, self.replayed, self.fails = [], [], fails

    def __call__(self, program, x, precision):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.captured.append(x.shape[0])

        def replay(x):
            self.replayed.append(x.shape[0])
            return program.run(x)

        return replay


def replays(**options):
    recorder = Recorder(**options)
    return Replays(module().program, "float32", recorder), recorder


def test_the_first_call_of_a_size_is_plain_and_the_second_is_captured():
    found, recorder = replays()
    expected = found.program.run(windows(2))
    for _ in range(3):
        assert torch.equal(found.run(windows(2)), expected)
    assert (recorder.captured, recorder.replayed) == ([2], [2, 2])


def test_a_few_sizes_are_kept_and_others_run_plainly():
    found, recorder = replays()
    for batch in [*range(1, MOST + 3)] * 3:
        assert torch.equal(found.run(windows(batch)), found.program.run(windows(batch)))
    assert recorder.captured == list(range(1, MOST + 1))
    assert set(recorder.replayed) == set(recorder.captured)


def test_sizes_that_came_once_do_not_keep_later_ones_out():
    found, recorder = replays()
    for batch in [*range(10, 10 + 5 * MOST), 3, 3]:
        found.run(windows(batch))
    assert recorder.captured == [3]


def test_calls_that_a_replay_would_not_serve_run_plainly():
    found, recorder = replays()
    for _ in range(3):
        found.run(windows(2).requires_grad_()).sum().backward()
        torch.vmap(found.run)(windows(6).reshape(3, 2, 3, 16))
        found.run(windows(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the executor's own branches on shapes
            torch.jit.trace(lambda x: found.run(x), windows(2), check_trace=False)
    assert recorder.captured == []
    with torch.no_grad():
        for _ in range(2):
            found.run(windows(2).requires_grad_())
    assert recorder.captured == [2]


def test_a_capture_that_fails_falls_back_and_says_so():
    found, recorder = replays(fails=True)
    for _ in range(3):
        assert torch.equal(found.run(windows(2)), found.program.run(windows(2)))
    assert found.reason == "runs without CUDA graphs: RuntimeError: operation not permitted when stream is capturing"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"float16.*float32, tf32"):
        module(precision="float16")


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_process_keeps_its_own_switches(precision):
    def switches():
        return [getattr(holder, name) for holder, name, _ in SWITCHES]

    before = switches()
    with computing_in(precision):
        assert switches() == [values[precision] for _, _, values in SWITCHES]
    assert switches() == before
    with pytest.raises(KeyError), computing_in("float16"):
        pass
    assert switches() == before


def test_threads_that_switch_at_once_leave_the_process_as_it_was():
    def switches():
        return [getattr(holder, name) for holder, name, _ in SWITCHES]

    before, wrong = switches(), []

    def ask(precision):
        for _ in range(200):
            with computing_in(precision):
                time.sleep(0)
                if switches() != [values[precision] for _, _, values in SWITCHES]:
                    wrong.append(precision)

    threads = [threading.Thread(target=ask, args=(precision,)) for precision in ("float32", "tf32") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert switches() == before


def test_threads_that_call_at_once_bind_once(monkeypatch):
    """A second program in the first one's place would free constants that another stream's kernels still read."""
    made, fast, faults = [], module(), []

    class Slow(Program):
        def __init__(self, *given):
            made.append(threading.get_ident())
            time.sleep(0.05)
            super().__init__(*given)

    monkeypatch.setattr(executor, "Program", Slow)
    fast.load_state_dict(fast.state_dict())  # what was bound is forgotten
    expected = module()(windows(2))

    def ask():
        if not torch.equal(fast(windows(2)), expected):
            faults.append(threading.get_ident())

    made.clear()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), faults) == (1, [])


def cuda(**changes):
    return module(**changes).to("cuda")


@pytest.mark.gpu
def test_numbers_are_the_plans_at_every_size_and_call():
    plain, fast = module(), cuda()
    with torch.inference_mode():
        for batch in [1, 2, 5, 64, 0] * 4:
            for seed in (1, 2):
                x = windows(batch, seed)
                torch.testing.assert_close(fast(x.cuda()).cpu(), plain(x), rtol=1e-5, atol=1e-5)
    assert set(fast.replays.kept) == {1, 2, 5, 64}
    assert fast.replays.reason == ""


@pytest.mark.gpu
def test_an_answer_stays_what_it_is_when_the_next_call_comes():
    fast = cuda()
    kept = [fast(windows(2, seed).cuda()) for seed in range(6)]
    for seed, answer in enumerate(kept):
        torch.testing.assert_close(answer.cpu(), module()(windows(2, seed)), rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_copies_pickles_and_moves_capture_anew():
    fast = cuda()
    for _ in range(3):
        expected = fast(windows(2).cuda())
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), fast.cpu().cuda()):
        for _ in range(3):
            torch.testing.assert_close(other(windows(2).cuda()), expected, rtol=1e-6, atol=1e-6)
        assert list(other.replays.kept) == [2]


@pytest.mark.gpu
def test_new_weights_are_used():
    fast, zeros = cuda(), module()
    for _ in range(3):
        fast(windows(2).cuda())
    zeros.load_state_dict({name: torch.zeros_like(value) for name, value in zeros.state_dict().items()})
    fast.load_state_dict(zeros.state_dict())
    for _ in range(3):
        torch.testing.assert_close(fast(windows(2).cuda()).cpu(), zeros(windows(2)))


@pytest.mark.gpu
def test_streams_threads_and_two_models_do_not_mix():
    models = [cuda(), cuda()]
    plain = module()
    faults = []

    def ask(start):  # each thread on a stream of its own
        stream = torch.cuda.Stream()
        with torch.inference_mode(), torch.cuda.stream(stream):
            for step in range(60):
                seed = start + step
                x = windows(2 + step % 2, seed).cuda()
                for model in models:
                    got = model(x).cpu()
                    if not torch.allclose(got, plain(windows(2 + step % 2, seed)), rtol=1e-4, atol=1e-5):
                        faults.append((start, step))

    threads = [threading.Thread(target=ask, args=(1000 * k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [model.replays.reason for model in models] == ["", ""]


@pytest.mark.gpu
def test_gradients_and_autocast_and_a_callers_own_capture():
    fast, plain = cuda(), module()
    for _ in range(3):
        fast(windows(2).cuda())
    x, y = windows(2).cuda().requires_grad_(), windows(2).requires_grad_()
    fast(x).sum().backward()
    plain(y).sum().backward()
    torch.testing.assert_close(x.grad.cpu(), y.grad, rtol=1e-4, atol=1e-4)
    with torch.autocast("cuda"):
        torch.testing.assert_close(fast(windows(3).cuda()).cpu(), plain(windows(3)), rtol=1e-5, atol=1e-5)
    held, graph = windows(2, 5).cuda(), torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        answer = fast(held)
    graph.replay()
    torch.testing.assert_close(answer.cpu(), plain(windows(2, 5)), rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_float32_is_float32_and_tf32_is_asked_for():
    """Products long enough that ten bits of a factor show."""
    torch.manual_seed(0)
    weight = torch.randn(64, 512, 33)
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w"], "sizes": {}}
    plan["nodes"] = [{"op": "Conv", "inputs": ["x", "w"], "outputs": ["y"], "attrs": {}}]
    x = torch.randn(8, 512, 200)
    exact = PlanModule(plan, {"w": weight}).double()(x.double()).numpy()
    error = {}
    for precision in ("float32", "tf32"):
        fast = PlanModule({**plan, "precision": precision}, {"w": weight}).cuda()
        for _ in range(3):  # plainly, at capture, and replayed
            got = fast(x.cuda()).double().cpu().numpy()
            error.setdefault(precision, []).append(float(np.abs(got - exact).max() / np.abs(exact).max()))
    assert max(error["float32"]) < 2e-5 < 1e-4 < min(error["tf32"])


def padded(pads, attrs=None, value=0.5):
    """Return a module that pads x (batch, 3, 16)."""
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["v"]}
    plan["sizes"] = {"pads": {"scalar": False, "values": pads}}
    plan["nodes"] = [{"op": "Pad", "inputs": ["x", "pads", "v"], "outputs": ["y"], "attrs": attrs or {}}]
    return PlanModule(plan, {"v": torch.tensor(value)}).eval()


@pytest.mark.gpu
@pytest.mark.parametrize("pads", [[0, 0, 2, 0, 0, 1], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3], [0, 1, 2, 0, 0, 1],
                                  [0, 0, -2, 0, 0, 1]])  # fmt: skip
def test_pads_are_those_of_the_cpu(pads):
    for batch in (2, 2, 2, 0, 1):
        fast = padded(pads).cuda()
        assert torch.equal(fast(windows(batch).cuda()).cpu(), padded(pads)(windows(batch)))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [(33, 1), (1, 33), (1, 1), (3, 3)])
@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions_are_those_of_the_cpu(kernel, groups):
    torch.manual_seed(0)
    x = torch.randn(5, 64, *(40 if k > 1 else 1 for k in kernel))
    weight, bias = torch.randn(128, 64 // groups, *kernel), torch.randn(128)
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w", "b"], "sizes": {}}
    plan["nodes"] = [{"op": "Conv", "inputs": ["x", "w", "b"], "outputs": ["y"], "attrs": {"group": groups}}]
    fast, exact = PlanModule(plan, {"w": weight, "b": bias}).cuda(), PlanModule(plan, {"w": weight, "b": bias}).double()
    for _ in range(3):
        torch.testing.assert_close(fast(x.cuda()).cpu().double(), exact(x.double()), rtol=1e-5, atol=1e-3)
