/* What is exported: one table of the instruction sets that the file was built for, and the choice among them. */
#include "rtserve_native.h"

#if defined(__GNUC__)
#define RT_EXPORT __attribute__((visibility("default")))
#else
#define RT_EXPORT
#endif

#ifdef RT_SHARED
#include "shared.h"
#define RT_DECLARE_SHARED(SUFFIX) extern const rt_shared rt_shared_##SUFFIX;
#define RT_ENTRY_SHARED(SUFFIX) &rt_shared_##SUFFIX
#else
#define RT_DECLARE_SHARED(SUFFIX)
#define RT_ENTRY_SHARED(SUFFIX)
#endif

typedef struct {
  const char *name;
  size_t (*packed)(void), (*scratch)(void);
  void (*pack)(const float *, float *);
  void (*run)(const float *, float *, const float *, float *);
#ifdef RT_SHARED
  const rt_shared *shared;
#endif
} rt_level;

#define RT_DECLARE(SUFFIX)                                                                                              \
  size_t rt_packed_##SUFFIX(void);                                                                                      \
  size_t rt_scratch_##SUFFIX(void);                                                                                     \
  void rt_pack_##SUFFIX(const float *restrict, float *restrict);                                                        \
  void rt_run_##SUFFIX(const float *restrict, float *restrict, const float *restrict, float *restrict);                  \
  RT_DECLARE_SHARED(SUFFIX)
#define RT_ENTRY(NAME, SUFFIX)                                                                                          \
  {NAME, rt_packed_##SUFFIX, rt_scratch_##SUFFIX, rt_pack_##SUFFIX, rt_run_##SUFFIX, RT_ENTRY_SHARED(SUFFIX)},

#define RT_LEVEL(NAME, SUFFIX, ABLE) RT_DECLARE(SUFFIX)
#include "levels.h"
#undef RT_LEVEL

static const rt_level levels[] = {
#define RT_LEVEL(NAME, SUFFIX, ABLE) RT_ENTRY(NAME, SUFFIX)
#include "levels.h"
#undef RT_LEVEL
};
enum { RT_LEVELS = sizeof levels / sizeof levels[0] };

RT_EXPORT int rtserve_levels(void) { return RT_LEVELS; }
RT_EXPORT const char *rtserve_level_name(int level) { return levels[level].name; }
RT_EXPORT int rtserve_best_level(void) {
  int best = -1, level = 0;
#define RT_LEVEL(NAME, SUFFIX, ABLE)                                                                                    \
  if (ABLE) best = level;                                                                                               \
  level++;
#include "levels.h"
#undef RT_LEVEL
  return best;
}
RT_EXPORT size_t rtserve_weight_floats(void) { return RT_WEIGHTS; }
RT_EXPORT size_t rtserve_window_floats(void) { return RT_WINDOW; }
RT_EXPORT size_t rtserve_answer_floats(void) { return RT_ANSWER; }
RT_EXPORT size_t rtserve_packed_floats(int level) { return levels[level].packed(); }
RT_EXPORT size_t rtserve_scratch_floats(int level) { return levels[level].scratch(); }
RT_EXPORT void rtserve_pack(int level, const float *weights, float *packed) { levels[level].pack(weights, packed); }
RT_EXPORT void rtserve_run(int level, const float *packed, float *scratch, const float *x, float *y, size_t batch) {
  for (size_t b = 0; b < batch; b++) levels[level].run(packed, scratch, x + b * RT_WINDOW, y + b * RT_ANSWER);
}
#ifdef RT_SHARED
#include "pool.h"
#endif
