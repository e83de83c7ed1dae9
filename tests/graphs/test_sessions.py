"""Sessions: a graph that an older onnxruntime's own rewrite breaks is loaded without that rewrite."""

import numpy as np
import onnx
import onnxruntime
import pytest

from rtserve.graphs.sessions import FLOAT32_ONLY, cpu_session, quiet_session

PRODUCT = onnx.parser.parse_model("""
<ir_version: 9, opset_import: ["" : 20]>
squares (double[b, 3, 5] x) => (double[b, 3, 3] y) {
    t = Transpose<perm = [0, 2, 1]>(x)
    y = MatMul(x, t)
}
""").SerializeToString()


@pytest.fixture
def refusing(monkeypatch):
    """onnxruntime as 1.23 to 1.25 are: what its rewrite makes of the product, it has for float32 alone."""
    real, asked = onnxruntime.InferenceSession, []

    def session(model, options, **named):
        asked.append(named.get("disabled_optimizers"))
        if not asked[-1]:
            raise RuntimeError(f"NOT_IMPLEMENTED : no kernel for FusedMatMul(1) (node:'/{FLOAT32_ONLY}/')")
        return real(model, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return asked


@pytest.mark.parametrize("make", [cpu_session, quiet_session])
def test_a_product_in_float64_loads(make):
    check(make(PRODUCT))


@pytest.mark.parametrize("make", [cpu_session, quiet_session])
def test_it_loads_where_the_rewrite_breaks_it(make, refusing):
    check(make(PRODUCT))
    assert refusing == [None, [FLOAT32_ONLY]]


def test_another_error_stays():
    with pytest.raises(Exception, match=r"(?i)protobuf|invalid|parse"):
        cpu_session(b"no graph")


def check(session):
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ x.transpose(0, 2, 1), rtol=1e-14)
