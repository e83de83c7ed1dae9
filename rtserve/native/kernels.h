/* Kernels of the native engine: everything that a generated file calls.
 *
 * A kernel computes a block of rows by a panel of output channels that stays in registers; the generated file says with
 * which constant shapes. Rows may lie anywhere (a stride for each of rows, taps and channels), so that views, padded lines
 * and plain windows are read where they are; what is written is contiguous along the channels. Vectors are GCC's vector
 * extension, which gcc and clang have for every processor; only a partial store differs between instruction sets.
 *
 * A last panel that is not full reads weights filled up with zeros and stores its own lanes alone: nothing is read outside
 * a buffer but the slack behind it (RT_SLACK floats), nothing is written outside.
 */
#ifndef RT_KERNELS_H
#define RT_KERNELS_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define RT_WIDTH 16 /* floats of a vector */
#elif defined(__AVX2__)
#include <immintrin.h>
#define RT_WIDTH 8
#else
#define RT_WIDTH 4
#endif
#define RT_VECS 2                    /* vectors of a panel */
#define RT_PANEL (RT_VECS * RT_WIDTH) /* channels of a panel */
#define RT_SLACK 32
#define RT_LINE 16 /* floats of a line of a cache */
#define RT_UP(N) (((N) + 15) / 16 * 16) /* where something begins */
/* Floats of a row of channels filled up to whole panels, and of packed weights of k rows. */
#define RT_FILLED(CHANNELS) (((CHANNELS) + RT_PANEL - 1) / RT_PANEL * RT_PANEL)
#define RT_PACKED(K, CHANNELS) ((K) * RT_FILLED(CHANNELS))
#define RT_INLINE static inline __attribute__((always_inline))
#define RT_UNUSED __attribute__((unused))
#if defined(__clang__)
#define RT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define RT_UNROLL _Pragma("GCC unroll 32")
#endif

typedef float rt_vec __attribute__((vector_size(4 * RT_WIDTH)));
typedef float rt_any __attribute__((vector_size(4 * RT_WIDTH), aligned(4), may_alias));

RT_INLINE rt_vec rt_load(const float *p) { return *(const rt_any *)p; }
RT_INLINE void rt_store(float *p, rt_vec v) { *(rt_any *)p = v; }
RT_INLINE rt_vec rt_splat(float x) { return x - (rt_vec){0}; }

/* Store the first n lanes. */
RT_INLINE void rt_store_part(float *p, rt_vec v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#elif defined(__AVX2__)
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes), (__m256)v);
#else
  p[0] = v[0]; /* four lanes: one to three of them */
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
#endif
}

/* max(x, 0) that lets NaN through. */
RT_INLINE rt_vec rt_relu_vec(rt_vec v) {
#if defined(__AVX512F__)
  return (rt_vec)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v);
#elif defined(__AVX2__)
  return (rt_vec)_mm256_max_ps(_mm256_setzero_ps(), (__m256)v);
#else
  for (int i = 0; i < RT_WIDTH; i++) v[i] = v[i] < 0.f ? 0.f : v[i];
  return v;
#endif
}

/* The larger one, or what is no number. */
typedef int rt_bits __attribute__((vector_size(4 * RT_WIDTH)));
RT_INLINE rt_vec rt_max_vec(rt_vec a, rt_vec b) {
  const rt_bits first = (a > b) | (a != a);
  return (rt_vec)((first & (rt_bits)a) | (~first & (rt_bits)b));
}

/* ---- dense: o[row][channel] = bias[channel] + sum over k of a[row][k] w[k][channel] ---- */

/* Where the k of a row lie: three loops of n at a step. */
typedef struct {
  int n0, n1, n2;
  ptrdiff_t s0, s1, s2;
} rt_taps;
#define RT_TAPS(N0, N1, N2, S0, S1, S2) (&(const rt_taps){N0, N1, N2, S0, S1, S2})

/* Take note of floats that will be read; the place may be outside of what there is. */
#define RT_FETCH(P, FLOATS) __builtin_prefetch((const void *)((P) + 4 * (uintptr_t)(FLOATS)), 0, 2)

/* What is fetched into the core's own cache meanwhile: the next panel, of which each of `share` blocks takes its part, since
 * all at once is more than arrives while one block is computed; or of a large panel (RT_FAR) what comes soon (RT_NEAR).
 * `step` bytes of it belong to one k. Panels of a graph lie in the order in which they are used, and together are often
 * more than that cache holds. */
typedef struct {
  uintptr_t from;
  ptrdiff_t step;
} rt_next;
RT_INLINE rt_next rt_next_of(const float *w, ptrdiff_t panel, int wide, int share) {
  const ptrdiff_t far = panel > RT_FAR ? RT_NEAR : panel;
  return (rt_next){(uintptr_t)w + 4 * (uintptr_t)far, panel > RT_FAR ? 4 * wide : 4 * ((wide + share - 1) / share)};
}
/* Take note of the floats of one k: `wide` ones, shared as said. */
RT_INLINE void rt_fetch(rt_next *next, const int wide, const int share) {
  const int mine = (wide + share - 1) / share;
  for (int at = 0; at < mine; at += RT_LINE) RT_FETCH(next->from, at);
  next->from += (uintptr_t)next->step;
}
RT_INLINE void rt_dense_block(const int rows, const int vecs, const int sets, const ptrdiff_t lda, const float *a,
                              const rt_taps *taps, const float *w, rt_next next, const int share, const float *bias,
                              float *o, ptrdiff_t ldo, int part, int relu) {
  rt_vec c[32];
  RT_UNROLL for (int i = 0; i < rows * vecs * sets; i++) c[i] = (rt_vec){0};
  if (bias) {
    RT_UNROLL for (int i = 0; i < rows; i++) RT_UNROLL for (int v = 0; v < vecs; v++) c[i * vecs + v] =
        rt_load(bias + v * RT_WIDTH);
  }
  const ptrdiff_t s2 = taps->s2;
  const int n2 = taps->n2;
  for (int k0 = 0; k0 < taps->n0; k0++)
    for (int k1 = 0; k1 < taps->n1; k1++) {
      const float *p = a + k0 * taps->s0 + k1 * taps->s1;
      int j = 0;
      for (; j + sets <= n2; j += sets) {
        RT_UNROLL for (int s = 0; s < sets; s++) {
          rt_vec ww[RT_VECS];
          RT_UNROLL for (int v = 0; v < vecs; v++) ww[v] = rt_load(w + v * RT_WIDTH);
          rt_fetch(&next, vecs * RT_WIDTH, share);
          RT_UNROLL for (int i = 0; i < rows; i++) {
            const rt_vec x = rt_splat(p[i * lda]);
            RT_UNROLL for (int v = 0; v < vecs; v++) c[(s * rows + i) * vecs + v] += x * ww[v];
          }
          w += vecs * RT_WIDTH;
          p += s2;
        }
      }
      for (; sets > 1 && j < n2; j++) {
        RT_UNROLL for (int v = 0; v < vecs; v++) {
          const rt_vec ww = rt_load(w + v * RT_WIDTH);
          RT_UNROLL for (int i = 0; i < rows; i++) c[i * vecs + v] += rt_splat(p[i * lda]) * ww;
        }
        next.from += (uintptr_t)next.step;
        w += vecs * RT_WIDTH;
        p += s2;
      }
    }
  RT_UNROLL for (int s = 1; s < sets; s++)
    RT_UNROLL for (int i = 0; i < rows * vecs; i++) c[i] += c[s * rows * vecs + i];
  RT_UNROLL for (int i = 0; i < rows; i++) RT_UNROLL for (int v = 0; v < vecs; v++) {
    const rt_vec r = relu ? rt_relu_vec(c[i * vecs + v]) : c[i * vecs + v];
    if (v == vecs - 1 && part)
      rt_store_part(o + i * ldo + v * RT_WIDTH, r, part);
    else
      rt_store(o + i * ldo + v * RT_WIDTH, r);
  }
}

/* Rows of a block; few of them are computed in several sets of k, so that additions do not wait for each other. */
#if RT_WIDTH == 16
#define RT_ROWS 13
#define RT_ROWS_1 24
#else
#define RT_ROWS 6
#define RT_ROWS_1 12
#endif
#define RT_SETS(ROWS, VECS) ((ROWS) * (VECS) <= 2 ? 4 : (ROWS) * (VECS) <= 4 ? 2 : 1)
#define RT_PARTS(N, MOST) (((N) + (MOST)-1) / (MOST))

#define RT_BLOCKS(COUNT, ROWS, VECS, LDA, SHARE)                                                                        \
  for (int i = 0; i < (COUNT);                                                                                          \
       i++, p += (ROWS) * (LDA), q += (ROWS) * ldo, next.from += (uintptr_t)(k * next.step))                            \
    rt_dense_block(ROWS, VECS, RT_SETS(ROWS, VECS), LDA, p, taps, w, next, SHARE, bias, q, ldo, part, relu);
/* N rows in the fewest blocks, as equal as they can be. */
#define RT_PANEL_OF(N, MOST, VECS, LDA)                                                                                 \
  {                                                                                                                     \
    const float *p = a;                                                                                                 \
    float *q = o + c;                                                                                                   \
    rt_next next = rt_next_of(w, k * (VECS) * RT_WIDTH, (VECS) * RT_WIDTH, RT_PARTS(N, MOST));                          \
    RT_BLOCKS((N) % RT_PARTS(N, MOST), (N) / RT_PARTS(N, MOST) + 1, VECS, LDA, RT_PARTS(N, MOST))                       \
    RT_BLOCKS(RT_PARTS(N, MOST) - (N) % RT_PARTS(N, MOST), (N) / RT_PARTS(N, MOST), VECS, LDA, RT_PARTS(N, MOST))       \
  }

/* One instance for a number of rows and the step between them. */
#define RT_LAYER(NAME, N, LDA)                                                                                          \
  static __attribute__((noinline)) void NAME(const float *a, const rt_taps *taps, const float *w, const float *bias,    \
                                             float *o, ptrdiff_t ldo, int channels, int relu) {                         \
    const ptrdiff_t k = (ptrdiff_t)taps->n0 * taps->n1 * taps->n2;                                                      \
    int c = 0;                                                                                                          \
    for (; channels - c > RT_WIDTH; c += RT_PANEL, w += k * RT_PANEL, bias += bias ? RT_PANEL : 0) {                    \
      const int part = channels - c < RT_PANEL ? channels - c - RT_WIDTH : 0;                                           \
      RT_PANEL_OF(N, RT_ROWS, 2, LDA)                                                                                   \
    }                                                                                                                   \
    if (c < channels) {                                                                                                 \
      const int part = channels - c < RT_WIDTH ? channels - c : 0;                                                      \
      RT_PANEL_OF(N, RT_ROWS_1, 1, LDA)                                                                                 \
    }                                                                                                                   \
  }

/* ---- few channels: the same, of weights [channel][k] whose k are taken a vector at a time, in several sums ---- */

RT_INLINE float rt_dot(const float *a, const rt_taps *taps, const float *w) {
  rt_vec c[4] = {{0}, {0}, {0}, {0}};
  float sum = 0.f;
  const int n2 = taps->n2;
  for (int k0 = 0; k0 < taps->n0; k0++)
    for (int k1 = 0; k1 < taps->n1; k1++, w += n2) {
      const float *p = a + k0 * taps->s0 + k1 * taps->s1;
      int j = 0;
      for (; j + 4 * RT_WIDTH <= n2; j += 4 * RT_WIDTH)
        RT_UNROLL for (int s = 0; s < 4; s++) c[s] += rt_load(p + j + s * RT_WIDTH) * rt_load(w + j + s * RT_WIDTH);
      for (; j + RT_WIDTH <= n2; j += RT_WIDTH) c[0] += rt_load(p + j) * rt_load(w + j);
      for (; j < n2; j++) sum += p[j] * w[j];
    }
  c[0] = (c[0] + c[1]) + (c[2] + c[3]);
  for (int i = 0; i < RT_WIDTH; i++) sum += c[0][i];
  return sum;
}
#define RT_FEW(NAME, N, LDA)                                                                                            \
  static __attribute__((noinline)) void NAME(const float *a, const rt_taps *taps, const float *w, const float *bias,    \
                                             float *o, ptrdiff_t ldo, int channels, int relu) {                         \
    const ptrdiff_t k = (ptrdiff_t)taps->n0 * taps->n1 * taps->n2;                                                      \
    for (int i = 0; i < (N); i++)                                                                                       \
      for (int c = 0; c < channels; c++) {                                                                              \
        const float v = rt_dot(a + i * (LDA), taps, w + c * k) + (bias ? bias[c] : 0.f);                                \
        o[i * ldo + c] = relu && v < 0.f ? 0.f : v;                                                                     \
      }                                                                                                                 \
  }

/* ---- depthwise: o[row][channel] = bias[channel] + sum over k of a[row * step + k * tap][channel] w[k][channel] ---- */

#if RT_WIDTH == 16
#define RT_DEEP 8
#define RT_DEEP_ROWS 16
#else
#define RT_DEEP 4
#define RT_DEEP_ROWS 8
#endif

/* A vector of samples; where every channel has two kernels, half a vector, each sample twice. */
typedef float rt_half __attribute__((vector_size(2 * RT_WIDTH), aligned(4), may_alias));
RT_INLINE rt_vec rt_times(const int times, const float *p) {
  if (times == 1) return rt_load(p);
  const rt_half h = *(const rt_half *)p;
#if RT_WIDTH == 16
  return __builtin_shufflevector(h, h, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
#elif RT_WIDTH == 8
  return __builtin_shufflevector(h, h, 0, 0, 1, 1, 2, 2, 3, 3);
#else
  return __builtin_shufflevector(h, h, 0, 0, 1, 1);
#endif
}

/* Rows that follow each other at the distance of the taps: a sample is loaded once for RT_DEEP taps. */
RT_INLINE void rt_slide_block(const int rows, const int times, const float *a, ptrdiff_t step, int n, const float *w, ptrdiff_t ldw,
                              const float *bias, float *o, ptrdiff_t ldo, int part, int relu) {
  rt_vec c[RT_DEEP_ROWS];
  RT_UNROLL for (int i = 0; i < rows; i++) c[i] = bias ? rt_load(bias) : (rt_vec){0};
  int k = 0;
  for (; k + RT_DEEP <= n; k += RT_DEEP) {
    rt_vec ww[RT_DEEP];
    RT_UNROLL for (int j = 0; j < RT_DEEP; j++) ww[j] = rt_load(w + (k + j) * ldw);
    const float *p = a + k * step;
    RT_UNROLL for (int r = 0; r < rows + RT_DEEP - 1; r++) {
      const rt_vec x = rt_times(times, p + r * step);
      RT_UNROLL for (int j = 0; j < RT_DEEP; j++) if (r >= j && r - j < rows) c[r - j] += x * ww[j];
    }
  }
  for (; k < n; k++) {
    const rt_vec ww = rt_load(w + k * ldw);
    RT_UNROLL for (int i = 0; i < rows; i++) c[i] += rt_times(times, a + (k + i) * step) * ww;
  }
  RT_UNROLL for (int i = 0; i < rows; i++) {
    const rt_vec r = relu ? rt_relu_vec(c[i]) : c[i];
    if (part)
      rt_store_part(o + i * ldo, r, part);
    else
      rt_store(o + i * ldo, r);
  }
}

/* Any step between rows and any taps. */
RT_INLINE void rt_depth_block(const int rows, const int times, const float *a, ptrdiff_t lda, const rt_taps *taps, const float *w,
                              ptrdiff_t ldw, const float *bias, float *o, ptrdiff_t ldo, int part, int relu) {
  rt_vec c[RT_DEEP_ROWS];
  RT_UNROLL for (int i = 0; i < rows; i++) c[i] = bias ? rt_load(bias) : (rt_vec){0};
  for (int k0 = 0; k0 < taps->n0; k0++)
    for (int k1 = 0; k1 < taps->n1; k1++)
      for (int k2 = 0; k2 < taps->n2; k2++, w += ldw) {
        const float *p = a + k0 * taps->s0 + k1 * taps->s1 + k2 * taps->s2;
        const rt_vec ww = rt_load(w);
        RT_UNROLL for (int i = 0; i < rows; i++) c[i] += rt_times(times, p + i * lda) * ww;
      }
  RT_UNROLL for (int i = 0; i < rows; i++) {
    const rt_vec r = relu ? rt_relu_vec(c[i]) : c[i];
    if (part)
      rt_store_part(o + i * ldo, r, part);
    else
      rt_store(o + i * ldo, r);
  }
}

#define RT_SLIDES(COUNT, ROWS, TIMES)                                                                                   \
  for (int i = 0; i < (COUNT); i++, p += (ROWS) * lda, q += (ROWS) * ldo)                                               \
    rt_slide_block(ROWS, TIMES, p, lda, k, w + c, ldw, bias ? bias + c : 0, q, ldo, part, relu);
#define RT_DEPTHS(COUNT, ROWS, TIMES)                                                                                   \
  for (int i = 0; i < (COUNT); i++, p += (ROWS) * lda, q += (ROWS) * ldo)                                               \
    rt_depth_block(ROWS, TIMES, p, lda, taps, w + c, ldw, bias ? bias + c : 0, q, ldo, part, relu);
#define RT_DEEP_LAYER(N, TIMES, BLOCKS)                                                                                 \
  const ptrdiff_t ldw = RT_FILLED(channels);                                                                            \
  for (int c = 0; c < channels; c += RT_WIDTH) {                                                                        \
    const int part = channels - c < RT_WIDTH ? channels - c : 0;                                                        \
    const float *p = a + c / (TIMES);                                                                                   \
    float *q = o + c;                                                                                                   \
    BLOCKS((N) % RT_PARTS(N, RT_DEEP_ROWS), (N) / RT_PARTS(N, RT_DEEP_ROWS) + 1, TIMES)                                 \
    BLOCKS(RT_PARTS(N, RT_DEEP_ROWS) - (N) % RT_PARTS(N, RT_DEEP_ROWS), (N) / RT_PARTS(N, RT_DEEP_ROWS), TIMES)         \
  }

/* N rows; TIMES kernels for a channel, one or two. */
#define RT_SLIDE(NAME, N, TIMES)                                                                                        \
  static __attribute__((noinline)) void NAME(const float *a, ptrdiff_t lda, int k, const float *w, const float *bias,   \
                                             float *o, ptrdiff_t ldo, int channels, int relu) {                         \
    RT_DEEP_LAYER(N, TIMES, RT_SLIDES)                                                                                  \
  }
#define RT_DEPTH(NAME, N, TIMES)                                                                                        \
  static __attribute__((noinline)) void NAME(const float *a, ptrdiff_t lda, const rt_taps *taps, const float *w,        \
                                             const float *bias, float *o, ptrdiff_t ldo, int channels, int relu) {      \
    RT_DEEP_LAYER(N, TIMES, RT_DEPTHS)                                                                                  \
  }

/* Output i of a tile, of which n are wanted. */
RT_INLINE void rt_put(float *q, ptrdiff_t ldo, int i, rt_vec v, int part, int relu, int n) {
  if (i >= n) return;
  if (relu) v = rt_relu_vec(v);
  if (part)
    rt_store_part(q + i * ldo, v, part);
  else
    rt_store(q + i * ldo, v);
}

/* ---- o[t][c] = x[c][t] ----
 *
 * Four samples of a vector of channels at a time: a vector is put together from four samples of every fourth channel, so
 * that what is left is to turn squares of four by four within its lanes, and what is stored are whole vectors.
 */

typedef float rt_four __attribute__((vector_size(16)));
typedef float rt_four_any __attribute__((vector_size(16), aligned(4), may_alias));
#define RT_MIX(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)

/* Four samples of each of RT_WIDTH / 4 channels, every fourth one. */
RT_INLINE rt_vec rt_four_of(const float *x, ptrdiff_t ldx) {
#if defined(__AVX512F__)
  const __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(x));
  const __m512 w = _mm512_insertf32x4(v, _mm_loadu_ps(x + 4 * ldx), 1);
  return (rt_vec)_mm512_insertf32x4(_mm512_insertf32x4(w, _mm_loadu_ps(x + 8 * ldx), 2), _mm_loadu_ps(x + 12 * ldx), 3);
#elif defined(__AVX2__)
  return (rt_vec)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)), _mm_loadu_ps(x + 4 * ldx), 1);
#else
  (void)ldx;
  return rt_load(x);
#endif
}
/* Numbers i, j of the first and k, l of the second vector, in every lane of four. */
#define RT_TURN_4(A, B, I, J, K, L) RT_MIX(A, B, I, J, (K) + 4, (L) + 4)
#if RT_WIDTH == 16
#define RT_TURN(A, B, I, J, K, L)                                                                                       \
  RT_MIX(A, B, I, J, (K) + 16, (L) + 16, (I) + 4, (J) + 4, (K) + 20, (L) + 20, (I) + 8, (J) + 8, (K) + 24, (L) + 24,     \
         (I) + 12, (J) + 12, (K) + 28, (L) + 28)
#elif RT_WIDTH == 8
#define RT_TURN(A, B, I, J, K, L) RT_MIX(A, B, I, J, (K) + 8, (L) + 8, (I) + 4, (J) + 4, (K) + 12, (L) + 12)
#else
#define RT_TURN RT_TURN_4
#endif
/* Rows r0 to r3 of every lane become its columns, at o and three times ldo further on. */
#define RT_SQUARES(VEC, ANY, TURN)                                                                                      \
  const VEC a = TURN(r0, r1, 0, 1, 0, 1), b = TURN(r0, r1, 2, 3, 2, 3);                                                 \
  const VEC c = TURN(r2, r3, 0, 1, 0, 1), d = TURN(r2, r3, 2, 3, 2, 3);                                                 \
  *(ANY *)(o) = TURN(a, c, 0, 2, 0, 2);                                                                                 \
  *(ANY *)(o + ldo) = TURN(a, c, 1, 3, 1, 3);                                                                           \
  *(ANY *)(o + 2 * ldo) = TURN(b, d, 0, 2, 0, 2);                                                                       \
  *(ANY *)(o + 3 * ldo) = TURN(b, d, 1, 3, 1, 3);

RT_INLINE void rt_turn_wide(const float *x, ptrdiff_t ldx, float *o, ptrdiff_t ldo) {
  const rt_vec r0 = rt_four_of(x, ldx), r1 = rt_four_of(x + ldx, ldx);
  const rt_vec r2 = rt_four_of(x + 2 * ldx, ldx), r3 = rt_four_of(x + 3 * ldx, ldx);
  RT_SQUARES(rt_vec, rt_any, RT_TURN)
}
RT_INLINE void rt_turn_four(const float *x, ptrdiff_t ldx, float *o, ptrdiff_t ldo) {
  const rt_four r0 = *(const rt_four_any *)x, r1 = *(const rt_four_any *)(x + ldx);
  const rt_four r2 = *(const rt_four_any *)(x + 2 * ldx), r3 = *(const rt_four_any *)(x + 3 * ldx);
  RT_SQUARES(rt_four, rt_four_any, RT_TURN_4)
}
#define RT_TURNS(FROM, WIDTH, TURN)                                                                                     \
  for (; FROM + (WIDTH) <= rows; FROM += (WIDTH)) {                                                                     \
    for (ptrdiff_t t = 0; t < fours; t += 4) TURN(x + FROM * ldx + t, ldx, o + t * ldo + FROM, ldo);                    \
    for (ptrdiff_t t = fours; t < columns; t++)                                                                         \
      for (ptrdiff_t i = FROM; i < FROM + (WIDTH); i++) o[t * ldo + i] = x[i * ldx + t];                                \
  }
RT_UNUSED static void rt_transpose(const float *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t columns, float *o,
                                   ptrdiff_t ldo) {
  const ptrdiff_t fours = columns / 4 * 4;
  ptrdiff_t c = 0;
  RT_TURNS(c, RT_WIDTH, rt_turn_wide)
  RT_TURNS(c, 4, rt_turn_four)
  for (; c < rows; c++)
    for (ptrdiff_t t = 0; t < columns; t++) o[t * ldo + c] = x[c * ldx + t];
}

/* ---- weights ---- */

/* w[k][channel] at two steps into panels [panel][k][vectors]; a last panel of one vector is stored as one. */
RT_UNUSED static void rt_pack(const float *w, ptrdiff_t sk, ptrdiff_t sc, int k, int channels, float *out) {
  for (int p = 0; p < channels; p += RT_PANEL) {
    const int wide = channels - p > RT_WIDTH ? RT_PANEL : RT_WIDTH;
    for (int j = 0; j < k; j++)
      for (int c = 0; c < wide; c++) *out++ = p + c < channels ? w[j * sk + (p + c) * sc] : 0.f;
  }
}

/* Weights at a point: sum over the q taps of a segment of a phase, w[channel][j][tap] times g[tap], in double precision;
 * k runs over phases, segments and j. */
RT_UNUSED static void rt_pack_point(const float *w, int taps, int stride, int q, const double *g, int phases, int segments,
                                    int inputs, int channels, float *out) {
  for (int p = 0; p < channels; p += RT_PANEL) {
    const int wide = channels - p > RT_WIDTH ? RT_PANEL : RT_WIDTH;
    for (int phase = 0; phase < phases; phase++)
      for (int s = 0; s < segments; s++)
        for (int j = 0; j < inputs; j++)
          for (int c = 0; c < wide; c++) {
            double sum = 0;
            for (int k = 0; k < q && p + c < channels; k++) {
              const int tap = (s * q + k) * stride + phase;
              if (tap < taps) sum += g[k] * w[((ptrdiff_t)(p + c) * inputs + j) * taps + tap];
            }
            *out++ = (float)sum;
          }
  }
}

/* Rows of `channels` into rows of whole panels, filled up with zeros. */
RT_UNUSED static void rt_fill(const float *w, int rows, int channels, float *out) {
  const int wide = RT_FILLED(channels);
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < wide; c++) *out++ = c < channels ? w[r * channels + c] : 0.f;
}

/* ---- functions of one number; loops over them are vectorised by the compiler ---- */

/* (e^r - 1 - r) / r^2 on [-log 2 / 2, log 2 / 2], fitted for the least relative error of e^r - 1 (1.4e-8). */
#define RT_E2 0.500000006f
#define RT_E3 0.166665425f
#define RT_E4 0.0416662807f
#define RT_E5 0.00836664408f
#define RT_E6 0.00139465519f
/* -log(1 - erf a) / a on [0, 4], fitted for the least relative error of erf (4.4e-8). */
#define RT_G0 1.12837912f
#define RT_G1 0.636624428f
#define RT_G2 0.102702698f
#define RT_G3 -0.0187387591f
#define RT_G4 -0.00126414413f
#define RT_G5 0.00326409314f
#define RT_G6 -0.00194826553f
#define RT_G7 0.00073073915f
#define RT_G8 -0.000159125137f
#define RT_G9 1.48676134e-05f

/* 2^n for a whole n in [-126, 128], made of the bits of n + 1.5 * 2^23. */
RT_INLINE float rt_two_to(float shifted) {
  uint32_t bits;
  float y;
  memcpy(&bits, &shifted, 4);
  bits = (bits << 23) + 0x3f000000u; /* one half of it: 2^128 does not fit */
  memcpy(&y, &bits, 4);
  return y;
}

/* exp(x) - 1: with x = n log 2 + r, 2^n (e^r - 1) + (2^n - 1), e^r - 1 by its minimax polynomial on [-log 2 / 2, log 2 / 2].
 * Relative error below 3e-7, also near zero; below -87 exp is zero. */
RT_INLINE float rt_expm1(float x) {
  const float z = x > -87.f ? (x < 89.f ? x : 89.f) : -87.f;
  const float shifted = z * 1.44269504f + 12582912.f;
  const float n = shifted - 12582912.f;
  const float r = (z - n * 0.693145752f) - n * 1.42860677e-6f;
  const float half = rt_two_to(shifted);
  float p = RT_E6;
  p = p * r + RT_E5;
  p = p * r + RT_E4;
  p = p * r + RT_E3;
  p = p * r + RT_E2;
  p = r + r * r * p;
  const float y = (p * half + (half - 0.5f)) * 2.f;
  return x != x ? x : (x < 89.f ? y : INFINITY);
}
RT_INLINE float rt_exp(float x) {
  const float z = x > -87.f ? (x < 89.f ? x : 89.f) : -87.f;
  const float shifted = z * 1.44269504f + 12582912.f;
  const float n = shifted - 12582912.f;
  const float r = (z - n * 0.693145752f) - n * 1.42860677e-6f;
  const float half = rt_two_to(shifted);
  float p = RT_E6;
  p = p * r + RT_E5;
  p = p * r + RT_E4;
  p = p * r + RT_E3;
  p = p * r + RT_E2;
  p = 1.f + (r + r * r * p);
  const float y = (p * half) * 2.f;
  return x != x ? x : (x > -87.f ? (x < 89.f ? y : INFINITY) : 0.f);
}
RT_INLINE float rt_relu(float x) { return x < 0.f ? 0.f : x; }
RT_INLINE float rt_elu(float x, float alpha) { return x > 0.f ? x : alpha * rt_expm1(x > 0.f ? 0.f : x); }
RT_INLINE float rt_sigmoid(float x) { return 1.f / (1.f + rt_exp(-x)); }
/* tanh |x| = -t / (t + 2) with t = exp(-2 |x|) - 1. */
RT_INLINE float rt_tanh(float x) {
  const float t = rt_expm1(-2.f * fabsf(x));
  return copysignf(-t / (t + 2.f), x);
}
/* erf |x| = 1 - exp(-|x| g(|x|)) with g a polynomial on [0, 4]; beyond, it is 1 in single precision. */
RT_INLINE float rt_erf(float x) {
  const float a = fabsf(x) < 4.f ? fabsf(x) : 4.f;
  float g = RT_G9;
  g = g * a + RT_G8;
  g = g * a + RT_G7;
  g = g * a + RT_G6;
  g = g * a + RT_G5;
  g = g * a + RT_G4;
  g = g * a + RT_G3;
  g = g * a + RT_G2;
  g = g * a + RT_G1;
  g = g * a + RT_G0;
  const float y = copysignf(-rt_expm1(-a * g), x);
  return x != x ? x : y;
}
/* log x = n log 2 + 2 atanh(s), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)), by the series of atanh. */
RT_INLINE float rt_log(float x) {
  const float scaled = x < 1.17549435e-38f ? x * 8388608.f : x;
  uint32_t bits;
  float m;
  memcpy(&bits, &scaled, 4);
  const uint32_t off = bits - 0x3f3504f3u;
  const float n = (float)((int32_t)off >> 23) - (x < 1.17549435e-38f ? 23.f : 0.f);
  bits = (off & 0x007fffffu) + 0x3f3504f3u;
  memcpy(&m, &bits, 4);
  const float s = (m - 1.f) / (m + 1.f), q = s * s;
  const float y = n * 0.693147181f + 2.f * s * (1.f + q * (1.f / 3 + q * (1.f / 5 + q * (1.f / 7 + q * (1.f / 9)))));
  return x > 0.f ? (x < INFINITY ? y : x) : (x == 0.f ? -INFINITY : NAN);
}
RT_INLINE float rt_softplus(float x) {
  const float a = fabsf(x);
  return (x < 0.f ? 0.f : x) + rt_log(1.f + rt_exp(-a));
}
RT_INLINE float rt_celu(float x, float alpha) { return x > 0.f ? x : alpha * rt_expm1(x > 0.f ? 0.f : x / alpha); }
RT_INLINE float rt_leaky(float x, float alpha) { return x < 0.f ? alpha * x : x; }
RT_INLINE float rt_thresholded(float x, float alpha) { return x > alpha || x != x ? x : 0.f; }
RT_INLINE float rt_square(float x) { return x * x; }
RT_INLINE float rt_gelu(float x) { return x * (0.5f + 0.5f * rt_erf(x * 0.707106781f)); }
RT_INLINE float rt_gelu_tanh(float x) {
  return x * (0.5f + 0.5f * rt_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
}
RT_INLINE float rt_mish(float x) { return x * rt_tanh(rt_softplus(x)); }
RT_INLINE float rt_softsign(float x) { return x / (1.f + fabsf(x)); }
RT_INLINE float rt_max(float a, float b) { return a > b || a != a ? a : b; }
RT_INLINE float rt_min(float a, float b) { return a < b || a != a ? a : b; }
RT_INLINE float rt_hard_sigmoid(float x, float alpha, float beta) {
  return rt_max(rt_min(alpha * x + beta, 1.f), 0.f);
}
RT_INLINE float rt_hard_swish(float x) { return x * rt_hard_sigmoid(x, 1.f / 6, 0.5f); }

/* ---- rows ---- */

RT_UNUSED static float rt_sum(const float *p, ptrdiff_t step, int n) {
  float c[16] = {0};
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; j++) c[j] += p[(i + j) * step];
  for (; i < n; i++) c[i & 15] += p[i * step];
  for (int half = 8; half; half /= 2)
    for (int j = 0; j < half; j++) c[j] += c[j + half];
  return c[0];
}
/* The largest; of neighbours a vector at a time, which need not wait for each other. */
RT_UNUSED static float rt_most(const float *p, ptrdiff_t step, int n) {
  float most = p[0];
  if (step != 1 || n < RT_WIDTH) {
    for (int i = 1; i < n; i++) most = rt_max(p[i * step], most);
    return most;
  }
  rt_vec c = rt_load(p + n - RT_WIDTH);
  for (int i = 0; i + RT_WIDTH <= n; i += RT_WIDTH) c = rt_max_vec(rt_load(p + i), c);
  float lanes[RT_WIDTH];
  rt_store(lanes, c);
  for (int half = RT_WIDTH / 2; half; half /= 2)
    for (int j = 0; j < half; j++) lanes[j] = rt_max(lanes[j + half], lanes[j]);
  return lanes[0];
}
/* o = exp(p - most); sixteen at a time, the last of them anew where sixteen are not left. */
RT_UNUSED static void rt_exps(const float *p, ptrdiff_t step, int n, float most, float *o) {
  if (step != 1 || n < 16) {
    for (int i = 0; i < n; i++) o[i] = rt_exp(p[i * step] - most);
    return;
  }
  for (int i = 0; i < n; i += 16) {
    const int at = i + 16 <= n ? i : n - 16;
    float e[16];
    for (int j = 0; j < 16; j++) e[j] = rt_exp(p[at + j] - most);
    memcpy(o + at, e, sizeof e);
  }
}
RT_UNUSED static void rt_softmax(const float *p, ptrdiff_t step, int n, float *o) {
  const float most = rt_most(p, step, n);
  rt_exps(p, step, n, most, o);
  const float over = 1.f / rt_sum(o, 1, n);
  for (int i = 0; i < n; i++) o[i] *= over;
}
/* Rows of at most sixteen numbers: sixteen rows at once, each in a lane of its own. */
RT_UNUSED static void rt_softmax_rows(const float *p, ptrdiff_t ldp, int rows, int n, float *o) {
  float t[16 * 16] = {0};
  for (int r = 0; r < rows; r += 16) {
    const int some = rows - r < 16 ? rows - r : 16;
    float most[16], over[16] = {0};
    rt_transpose(p + r * ldp, ldp, some, n, t, 16);
    for (int i = 0; i < 16; i++) most[i] = t[i];
    for (int j = 1; j < n; j++)
      for (int i = 0; i < 16; i++) most[i] = rt_max(t[j * 16 + i], most[i]);
    for (int j = 0; j < n; j++) {
      float e[16];
      for (int i = 0; i < 16; i++) e[i] = rt_exp(t[j * 16 + i] - most[i]);
      for (int i = 0; i < 16; i++) over[i] += e[i];
      memcpy(t + j * 16, e, sizeof e);
    }
    for (int i = 0; i < 16; i++) over[i] = 1.f / over[i];
    for (int j = 0; j < n; j++)
      for (int i = 0; i < 16; i++) t[j * 16 + i] *= over[i];
    rt_transpose(t, 16, n, some, o + r * n, n);
  }
}
RT_UNUSED static void rt_log_softmax(const float *p, ptrdiff_t step, int n, float *o) {
  const float most = rt_most(p, step, n);
  rt_exps(p, step, n, most, o);
  const float less = most + rt_log(rt_sum(o, 1, n));
  for (int i = 0; i < n; i++) o[i] = p[i * step] - less;
}
/* (x - mean) / sqrt(variance + eps), squares summed around the mean. */
RT_UNUSED static void rt_normalise(const float *p, ptrdiff_t step, int n, float eps, float *o) {
  const float mean = rt_sum(p, step, n) / (float)n;
  for (int i = 0; i < n; i++) o[i] = (p[i * step] - mean) * (p[i * step] - mean);
  const float over = 1.f / sqrtf(rt_sum(o, 1, n) / (float)n + eps);
  for (int i = 0; i < n; i++) o[i] = (p[i * step] - mean) * over;
}
#endif
