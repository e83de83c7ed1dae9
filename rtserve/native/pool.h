/* Several threads at one window or at several; included by dispatch.c.
 *
 * Who calls is one of the threads and needs none of the others: every task is taken by whoever comes first, so that on a
 * machine where a helper gets no time the caller does all the work, and waits only for what a helper has begun. A task
 * is taken by writing the job's number behind it. Waiting is spinning for some 40 us, then giving way, then sleeping.
 *
 * A helper that comes late must not take a task of the next job by the words of the last one: it reads what the job is
 * between two readings of its number, which is odd while the words are changed, and takes tasks with an older number only.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "shared.h"

#define RT_LINE 64  /* bytes that are written together */
#define RT_CHUNKS 64 /* parts of a batch */
#define RT_SPINS 2048
#define RT_YIELDS 64
#define RT_UP64(N) (((N) + 63) / 64 * 64)

typedef _Atomic uint64_t rt_number; /* of jobs: at 32 bits they would come round within days */
typedef struct {
  _Alignas(RT_LINE) rt_number number;
} rt_taken;
typedef struct {
  _Alignas(RT_LINE) atomic_uint number;
} rt_count;

typedef struct {
  const float *x;
  float *y;
  size_t batch;
  uint64_t number;
  unsigned windows, batches; /* single windows and parts of batches so far, with this job's */
  unsigned mode;             /* of floating-point arithmetic */
} rt_job;

typedef struct rtserve_pool rt_pool;
typedef struct {
  rt_pool *pool;
  int me;
  pthread_t thread;
} rt_helper;

struct rtserve_pool {
  _Alignas(RT_LINE) rt_number job; /* even: its number; odd: its words are being written */
  _Atomic(const float *) x;
  _Atomic(float *) y;
  atomic_size_t batch;
  atomic_uint windows, batches, mode;
  _Alignas(RT_LINE) atomic_int asleep;
  atomic_int ended;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  const rt_level *level;
  const float *packed;
  float *scratch;
  size_t each; /* floats of scratch of a thread that computes windows of its own */
  int threads;
  rt_helper *helpers;
  rt_taken *taken;
  rt_count *done, *batch_done;
};

/* ---- the processor ---- */

static inline void rt_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
/* Rounding, and whether numbers below the smallest normal one are zero: a helper computes as its caller does. */
static inline unsigned rt_mode(void) {
#if defined(__SSE__)
  return __builtin_ia32_stmxcsr() & ~0x3fu; /* without what has happened so far */
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return (unsigned)mode;
#else
  return 0;
#endif
}
static inline void rt_set_mode(unsigned mode) {
#if defined(__SSE__)
  __builtin_ia32_ldmxcsr(mode);
#elif defined(__aarch64__)
  const uint64_t wide = mode;
  __asm__ volatile("msr fpcr, %0" : : "r"(wide));
#else
  (void)mode;
#endif
}

static void rt_rest(unsigned turn) {
  if (turn < RT_SPINS)
    rt_pause();
  else if (turn < RT_SPINS + RT_YIELDS)
    sched_yield();
  else
    nanosleep(&(struct timespec){0, 20000}, NULL);
}

/* ---- a job ---- */

/* Wait until a count is there; 0 where the job is over meanwhile. */
static int rt_reached(rt_pool *pool, const rt_job *job, rt_count *count, unsigned wanted) {
  for (unsigned turn = 0;; turn++) {
    if ((int)(atomic_load_explicit(&count->number, memory_order_acquire) - wanted) >= 0) return 1;
    if (atomic_load_explicit(&pool->job, memory_order_acquire) != job->number) return 0;
    rt_rest(turn);
  }
}

static int rt_take(rt_pool *pool, const rt_job *job, int task) {
  rt_number *taken = &pool->taken[task].number;
  uint64_t old = atomic_load_explicit(taken, memory_order_relaxed);
  return old < job->number &&
         atomic_compare_exchange_strong_explicit(taken, &old, job->number, memory_order_acq_rel, memory_order_relaxed);
}

static void rt_one(rt_pool *pool, const rt_job *job, int task, int n, int me) {
  if (job->batch == 1) {
    pool->level->shared->tasks[task](pool->packed, pool->scratch, job->x, job->y);
    return;
  }
  float *scratch = pool->scratch + (size_t)me * pool->each;
  for (size_t b = job->batch * (size_t)task / (size_t)n; b < job->batch * (size_t)(task + 1) / (size_t)n; b++)
    pool->level->run(pool->packed, scratch, job->x + b * RT_WINDOW, job->y + b * RT_ANSWER);
}

/* The tasks from `first` on, of which `n` there are; return how many were done. Neighbours go towards each other. */
static unsigned rt_tasks_of(rt_pool *pool, const rt_job *job, int first, int n, int me) {
  const int from = (me + (me & 1)) % pool->threads * n / pool->threads, up = !(me & 1);
  unsigned mine = 0;
  for (int k = 0; k < n; k++) {
    const int task = up ? (from + k) % n : (from + 2 * n - 1 - k) % n;
    if (!rt_take(pool, job, first + task)) continue;
    rt_one(pool, job, first + task, n, me);
    mine++;
  }
  return mine;
}

static int rt_stage(rt_pool *pool, const rt_job *job, int first, int n, int me, rt_count *count, unsigned jobs) {
  const unsigned mine = rt_tasks_of(pool, job, first, n, me);
  if (mine) atomic_fetch_add_explicit(&count->number, mine, memory_order_acq_rel);
  return rt_reached(pool, job, count, jobs);
}

static void rt_work(rt_pool *pool, const rt_job *job, int me) {
  const rt_shared *shared = pool->level->shared;
  if (job->batch > 1) {
    const int n = job->batch < RT_CHUNKS ? (int)job->batch : RT_CHUNKS;
    rt_stage(pool, job, 0, n, me, pool->batch_done, job->batches);
    return;
  }
  for (int k = 0; k < shared->n_stages; k++) {
    const int first = shared->stages[k], n = shared->stages[k + 1] - first;
    if (!rt_stage(pool, job, first, n, me, &pool->done[k], job->windows * (unsigned)n)) return;
  }
}

/* ---- helpers ---- */

/* Read the job after number `last`; 0 where there is none, or it is being written. */
static int rt_read(rt_pool *pool, uint64_t last, rt_job *job) {
  job->number = atomic_load_explicit(&pool->job, memory_order_acquire);
  if (job->number == last || (job->number & 1)) return 0;
  job->x = atomic_load_explicit(&pool->x, memory_order_acquire);
  job->y = atomic_load_explicit(&pool->y, memory_order_acquire);
  job->batch = atomic_load_explicit(&pool->batch, memory_order_acquire);
  job->windows = atomic_load_explicit(&pool->windows, memory_order_acquire);
  job->batches = atomic_load_explicit(&pool->batches, memory_order_acquire);
  job->mode = atomic_load_explicit(&pool->mode, memory_order_acquire);
  return atomic_load_explicit(&pool->job, memory_order_relaxed) == job->number;
}

static void rt_sleep(rt_pool *pool, uint64_t last) {
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->asleep, 1);
  while (atomic_load(&pool->job) == last && !atomic_load(&pool->ended)) pthread_cond_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->asleep, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void *rt_help(void *given) {
  rt_helper *self = given;
  rt_pool *pool = self->pool;
  rt_job job = {0};
  uint64_t last = 0;
  unsigned turn = 0;
  while (!atomic_load_explicit(&pool->ended, memory_order_acquire)) {
    if (rt_read(pool, last, &job)) {
      rt_set_mode(job.mode);
      rt_work(pool, &job, self->me);
      last = job.number, turn = 0;
    } else if (turn++ < RT_SPINS) {
      rt_pause();
    } else {
      rt_sleep(pool, last), turn = 0;
    }
  }
  return NULL;
}

static void rt_wake(rt_pool *pool) {
  if (atomic_load(&pool->asleep) == 0) return;
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
}

/* ---- what is exported ---- */

/* Where the parts of a pool lie in its memory, and how long it is. */
typedef struct {
  size_t helpers, taken, done, batch_done, scratch, end;
} rt_places;
static rt_places rt_placed(int level, int threads) {
  const rt_shared *shared = levels[level].shared;
  const size_t tasks = (size_t)shared->stages[shared->n_stages], each = RT_UP64(levels[level].scratch() * sizeof(float));
  const size_t own = each * (size_t)threads, together = RT_UP64(shared->scratch * sizeof(float));
  rt_places at;
  at.helpers = RT_UP64(sizeof(rt_pool));
  at.taken = at.helpers + RT_UP64((size_t)threads * sizeof(rt_helper));
  at.done = at.taken + (tasks > RT_CHUNKS ? tasks : RT_CHUNKS) * sizeof(rt_taken);
  at.batch_done = at.done + (size_t)shared->n_stages * sizeof(rt_count);
  at.scratch = at.batch_done + sizeof(rt_count);
  at.end = at.scratch + (own > together ? own : together);
  return at;
}

RT_EXPORT size_t rtserve_pool_bytes(int level, int threads) { return rt_placed(level, threads).end; }

RT_EXPORT rtserve_pool *rtserve_pool_open(int level, int threads, const float *packed, void *memory) {
  const rt_places at = rt_placed(level, threads);
  char *start = memory;
  rt_pool *pool = memory;
  memset(memory, 0, at.end);
  pool->level = &levels[level], pool->packed = packed, pool->threads = threads;
  pool->each = RT_UP64(levels[level].scratch() * sizeof(float)) / sizeof(float);
  pool->helpers = (rt_helper *)(start + at.helpers);
  pool->taken = (rt_taken *)(start + at.taken), pool->done = (rt_count *)(start + at.done);
  pool->batch_done = (rt_count *)(start + at.batch_done), pool->scratch = (float *)(start + at.scratch);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are for the program's own threads */
  for (int k = 1; k < threads; k++) {
    rt_helper *helper = &pool->helpers[k];
    helper->pool = pool, helper->me = k;
    if (pthread_create(&helper->thread, NULL, rt_help, helper)) helper->pool = NULL; /* the others do its work */
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return pool;
}

RT_EXPORT void rtserve_pool_run(rtserve_pool *pool, const float *x, float *y, size_t batch) {
  const unsigned n = batch < RT_CHUNKS ? (unsigned)batch : RT_CHUNKS;
  if (batch == 0) return;
  rt_job job = {.x = x, .y = y, .batch = batch, .mode = rt_mode()};
  const uint64_t before = atomic_load_explicit(&pool->job, memory_order_relaxed);
  job.windows = atomic_load_explicit(&pool->windows, memory_order_relaxed) + (batch == 1);
  job.batches = atomic_load_explicit(&pool->batches, memory_order_relaxed) + (batch > 1 ? n : 0);
  job.number = before + 2;
  atomic_store_explicit(&pool->job, before + 1, memory_order_relaxed);
  atomic_store_explicit(&pool->x, x, memory_order_release);
  atomic_store_explicit(&pool->y, y, memory_order_release);
  atomic_store_explicit(&pool->batch, batch, memory_order_release);
  atomic_store_explicit(&pool->windows, job.windows, memory_order_release);
  atomic_store_explicit(&pool->batches, job.batches, memory_order_release);
  atomic_store_explicit(&pool->mode, job.mode, memory_order_release);
  atomic_store(&pool->job, job.number);
  rt_wake(pool);
  rt_work(pool, &job, 0);
}

RT_EXPORT void rtserve_pool_close(rtserve_pool *pool) {
  atomic_store(&pool->ended, 1);
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
  for (int k = 1; k < pool->threads; k++)
    if (pool->helpers[k].pool) pthread_join(pool->helpers[k].thread, NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
}
