/* Reads F.weights and windows from standard input, writes answers to standard output; see docs/native.md. */
#include <stdio.h>
#include <stdlib.h>
#include "rtserve_native.h"

static float *room(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

int main(int argc, char **argv) {
  const int level = rtserve_best_level();
  FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
  if (level < 0 || file == NULL) return 1;

  const size_t n_weights = rtserve_weight_floats(), n_window = rtserve_window_floats(), n_answer = rtserve_answer_floats();
  float *weights = room(n_weights), *packed = room(rtserve_packed_floats(level));
  float *scratch = room(rtserve_scratch_floats(level)), *x = malloc(n_window * sizeof(float));
  float *y = malloc(n_answer * sizeof(float));
  if (fread(weights, sizeof(float), n_weights, file) != n_weights) return 1;
  fclose(file);
  rtserve_pack(level, weights, packed);

  while (fread(x, sizeof(float), n_window, stdin) == n_window) {
    rtserve_run(level, packed, scratch, x, y, 1);
    fwrite(y, sizeof(float), n_answer, stdout);
  }
  free(weights), free(packed), free(scratch), free(x), free(y);
  return 0;
}
