/* A graph as native code: what a program that links or loads it may call.
 *
 * Memory is the caller's: `rtserve_packed_floats(level)` floats for the weights, `rtserve_scratch_floats(level)` for one
 * window in flight (one such block for each thread), both aligned to 64 bytes. Nothing else is kept or allocated, so any
 * number of threads may run one set of packed weights, each with scratch of its own.
 */
#ifndef RTSERVE_NATIVE_H
#define RTSERVE_NATIVE_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* How many instruction sets the code was built for; levels go from 0, the plainest, upwards. */
int rtserve_levels(void);
/* The name of a level: x86-64-v4, x86-64-v3, x86-64-v2, or generic. */
const char *rtserve_level_name(int level);
/* The highest level that this processor can run; -1 where it can run none. */
int rtserve_best_level(void);
/* Numbers of the file of weights, of a window, and of an answer. */
size_t rtserve_weight_floats(void);
size_t rtserve_window_floats(void);
size_t rtserve_answer_floats(void);
size_t rtserve_packed_floats(int level);
size_t rtserve_scratch_floats(int level);
/* Put the weights, as the file beside the code holds them (little-endian float32), in the order that a level wants. */
void rtserve_pack(int level, const float *weights, float *packed);
/* Compute `batch` answers, one window after the other. */
void rtserve_run(int level, const float *packed, float *scratch, const float *x, float *y, size_t batch);

/* Several threads at one window, or each at windows of a batch, with the same bits: only where the code was built for it
 * (rtserve compile --threaded). A pool lives in memory of the caller's, `rtserve_pool_bytes` of it, aligned to 64 bytes,
 * and computes for one caller at a time. `threads` counts the caller; where the system gives fewer, the others do the work.
 * A process that was forked opens a pool of its own: threads do not come along. */
typedef struct rtserve_pool rtserve_pool;
size_t rtserve_pool_bytes(int level, int threads);
rtserve_pool *rtserve_pool_open(int level, int threads, const float *packed, void *memory);
void rtserve_pool_run(rtserve_pool *pool, const float *x, float *y, size_t batch);
/* End the threads; the memory is the caller's again. */
void rtserve_pool_close(rtserve_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
