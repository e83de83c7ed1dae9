/* What a generated file says to several threads: tasks by stage, and the memory of a window that they compute together. */
#ifndef RT_SHARED_H
#define RT_SHARED_H
#include <stddef.h>

typedef void rt_task(const float *restrict w, float *restrict s, const float *restrict x, float *restrict y);
typedef struct {
  rt_task *const *tasks;
  const int *stages; /* where each begins, and the end */
  int n_stages;
  size_t scratch;
} rt_shared;
#endif
