/* F.weights THREADS ROUNDS < windows: answers by a pool, one by one and all at once, are the bits that one thread gives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "rtserve_native.h"

static void *room(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

int main(int argc, char **argv) {
  const int level = rtserve_best_level();
  FILE *file = argc > 3 ? fopen(argv[1], "rb") : NULL;
  if (level < 0 || file == NULL) return 2;
  const int threads = atoi(argv[2]), rounds = atoi(argv[3]);
  const size_t n_weights = rtserve_weight_floats(), n_window = rtserve_window_floats(), n_answer = rtserve_answer_floats();
  float *weights = room(n_weights * sizeof(float)), *packed = room(rtserve_packed_floats(level) * sizeof(float));
  float *scratch = room(rtserve_scratch_floats(level) * sizeof(float)), *x = malloc(64 * n_window * sizeof(float));
  float *wanted = malloc(64 * n_answer * sizeof(float)), *y = malloc(64 * n_answer * sizeof(float));
  if (fread(weights, sizeof(float), n_weights, file) != n_weights) return 2;
  fclose(file);
  const size_t n = fread(x, n_window * sizeof(float), 64, stdin);
  rtserve_pack(level, weights, packed);
  rtserve_run(level, packed, scratch, x, wanted, n);

  void *memory = room(rtserve_pool_bytes(level, threads));
  rtserve_pool *pool = rtserve_pool_open(level, threads, packed, memory);
  int wrong = 0;
  for (int k = 0; k < rounds; k++) {
    const size_t at_once = k % 3 ? 1 : n;
    memset(y, 0xff, n * n_answer * sizeof(float));
    for (size_t b = 0; b < n; b += at_once) rtserve_pool_run(pool, x + b * n_window, y + b * n_answer, at_once);
    wrong += memcmp(y, wanted, n * n_answer * sizeof(float)) != 0;
  }
  rtserve_pool_run(pool, x, y, 0);
  rtserve_pool_close(pool);
  printf("%d wrong\n", wrong);
  free(weights), free(packed), free(scratch), free(x), free(y), free(wanted), free(memory);
  return wrong != 0;
}
