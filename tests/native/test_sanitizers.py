"""No form of an operator reads or writes outside its memory, or does what C leaves undefined: one program runs them all
under AddressSanitizer and UndefinedBehaviorSanitizer, in blocks of exactly the sizes that the code asks for.

The default suite takes a form of each operator that has statements of its own; ``make test-native`` takes every form of all.
"""

import os
import shutil
import subprocess

import numpy as np
import onnx
import pytest

from rtserve.errors import ExportError
from rtserve.native.build import HERE, SOURCES
from rtserve.native.compiler import FLAGS, find_compiler, levels_here
from rtserve.native.draft import REWRITES
from rtserve.native.flow import Unsupported
from rtserve.native.generate import generate
from rtserve.native.pointwise import POINTWISE
from rtserve.native.writer import OPERATORS
from tests.native.test_native import STRICT
from tests.native.test_operators import flow_of, forms
from tests.native.test_waves import FORMS as WAVES
from tests.native.test_waves import model_of as wave_model
from tests.native.test_waves import written
from tests.runtime.test_batches import model_of

pytestmark = pytest.mark.tools

ALL = os.environ.get("RTSERVE_SANITIZE_ALL") == "1"
PARTS = 8 if ALL else 2
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#define FORM(S, WEIGHTS, ANSWER)                                                            \\
  size_t rt_packed_##S(void), rt_scratch_##S(void);                                         \\
  void rt_pack_##S(const float *restrict, float *restrict);                                 \\
  void rt_run_##S(const float *restrict, float *restrict, const float *restrict, float *restrict);
#include "forms.h"
#undef FORM
static float *room(size_t floats) {
  void *place;
  return posix_memalign(&place, 64, floats * sizeof(float)) ? abort(), NULL : place;
}
int main(void) {
  FILE *weights = fopen("weights", "rb"), *windows = fopen("windows", "rb");
  static float x[2][WINDOW];
  if (fread(x, sizeof x, 1, windows) != 1) return 1;
#define FORM(S, WEIGHTS, ANSWER)                                                            \\
  {                                                                                         \\
    float *w = room(WEIGHTS), *packed = room(rt_packed_##S()), *s = room(rt_scratch_##S()); \\
    float *y = room(ANSWER), *own = room(WINDOW);                                           \\
    if (fread(w, sizeof(float), WEIGHTS, weights) != WEIGHTS) return 1;                     \\
    rt_pack_##S(w, packed);                                                                 \\
    for (int k = 0; k < 2; k++) {                                                           \\
      for (int i = 0; i < WINDOW; i++) own[i] = x[k][i];                                    \\
      rt_run_##S(packed, s, own, y);                                                        \\
      fwrite(y, sizeof(float), ANSWER, stdout);                                             \\
    }                                                                                       \\
    free(w), free(packed), free(s), free(y), free(own);                                     \\
  }
#include "forms.h"
  fclose(weights), fclose(windows);
  return 0;
}
"""


def generated_forms(part):
    """Return the C of every form of one part of the operators."""
    names = sorted(op for op in OPERATORS | REWRITES if ALL or op not in POINTWISE | REWRITES.keys() - OPERATORS.keys())
    found = []
    for op in names[part::PARTS]:
        for declared, body in forms(op) if ALL else forms(op)[-1:]:
            model = onnx.shape_inference.infer_shapes(model_of(declared, body))
            try:
                found.append((f"{op}: {body}", generate(flow_of(model))))
            except (Unsupported, ExportError):
                continue
    return found


IN_PLACE = [
    ("<float[12, 1, 3] w>", "t = Transpose <perm = [0, 2, 1]> (x)\n y = Conv <group = 12> (t, w)"),
    ("<float[24, 1, 3] w>", "t = Transpose <perm = [0, 2, 1]> (x)\n y = Conv <group = 12> (t, w)"),
    ("<float[64, 12, 2] w>", "t = Transpose <perm = [0, 2, 1]> (x)\n y = Conv (t, w)"),
    ("", "t = Transpose <perm = [0, 2, 1]> (x)\n a = AveragePool <kernel_shape = [2]> (t)\n y = Relu (a)"),
    ("<float[1, 4, 3] w>", "a = Conv (x, w)\n b = Abs (x)\n c = Conv (b, w)\n y = Concat <axis = 2> (a, c, a)"),
    ("<float[16, 4, 3] w>", "a = Conv (x, w)\n b = Elu (a)\n y = Concat <axis = 0> (a, b)"),
]
"""What is read where the window lies, or written where the answer does: their ends are the caller's."""


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_nothing_is_read_behind_the_window_or_the_answer(level, tmp_path):
    models = [(body, onnx.shape_inference.infer_shapes(model_of(declared, body))) for declared, body in IN_PLACE]
    run_with_checks([(body, generate(flow_of(model))) for body, model in models], tmp_path, level)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_form_reads_or_writes_outside(part, tmp_path):
    run_with_checks(generated_forms(part), tmp_path, levels_here()[0])


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_waves_read_and_write_inside(level, tmp_path):
    found = [(how, written(wave_model(how))) for how in (WAVES if ALL else ("phases", "lines"))]
    assert all("RT_WAVES" in one.source for _, one in found)
    run_with_checks(found, tmp_path, level, n=4 * 240)


def run_with_checks(found, tmp_path, level, *, n=48):
    """Run the C of forms on windows of n numbers with the compiler's checks."""
    compiler = find_compiler()
    for source in SOURCES:
        shutil.copy(HERE / source, tmp_path)
    checks = [*FLAGS, *level.flags, *STRICT, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for k, (_, generated) in enumerate(found):
        (tmp_path / f"form{k}.c").write_text(generated.source)
        compiler.run([*checks, f"-DRT_SUFFIX=form{k}", "-c", f"form{k}.c", "-o", f"form{k}.o"], tmp_path)
    lines = [f"FORM(form{k}, {one.sizes['WEIGHTS']}, {one.sizes['ANSWER']})\n" for k, (_, one) in enumerate(found)]
    (tmp_path / "forms.h").write_text("".join(lines))
    (tmp_path / "main.c").write_text(MAIN)
    objects = [f"form{k}.o" for k in range(len(found))]
    compiler.run([*checks, f"-DWINDOW={n}", "main.c", *objects, "-o", "main", "-lm"], tmp_path)
    x = np.random.default_rng(5).uniform(-2, 2, (2, n)).astype("<f4")
    x[1, 5], x[1, 17] = np.nan, np.inf
    (tmp_path / "windows").write_bytes(x.tobytes())
    (tmp_path / "weights").write_bytes(b"".join(one.weights.astype("<f4").tobytes() for _, one in found))
    done = subprocess.run([tmp_path / "main"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr.decode()[:2000]}\nforms: {[name for name, _ in found]}"
    assert len(done.stdout) == 8 * sum(one.sizes["ANSWER"] for _, one in found)
