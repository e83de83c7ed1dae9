/* Products of waves: o[row] = sum over k of a[row][k] w[k] in complex numbers (rtserve/native/waves.py).
 *
 * Real and imaginary parts lie `imag` floats apart in a and `other` floats apart in o; of every k w has the real parts of a
 * panel's channels, then the imaginary ones.
 */
#ifndef RT_WAVES_H
#define RT_WAVES_H

/* Rows of a block, of two vectors of channels and of one: both sums of each stay in registers. */
#if RT_WIDTH == 16 || defined(__aarch64__)
#define RT_WAVE_ROWS 6
#define RT_WAVE_ROWS_1 12
#else
#define RT_WAVE_ROWS 2
#define RT_WAVE_ROWS_1 5
#endif

RT_INLINE void rt_wave_block(const int rows, const int vecs, const ptrdiff_t lda, const ptrdiff_t imag, const float *a,
                             const rt_taps *taps, const float *w, rt_next next, const int share, float *o,
                             ptrdiff_t ldo, ptrdiff_t other, int part) {
  rt_vec re[12], im[12];
  RT_UNROLL for (int i = 0; i < rows * vecs; i++) re[i] = im[i] = (rt_vec){0};
  for (int k1 = 0; k1 < taps->n1; k1++) {
    const float *p = a + k1 * taps->s1;
    for (int k2 = 0; k2 < taps->n2; k2++, p++, w += 2 * vecs * RT_WIDTH) {
      rt_vec wr[RT_VECS], wi[RT_VECS];
      RT_UNROLL for (int v = 0; v < vecs; v++) {
        wr[v] = rt_load(w + v * RT_WIDTH);
        wi[v] = rt_load(w + (vecs + v) * RT_WIDTH);
      }
      rt_fetch(&next, 2 * vecs * RT_WIDTH, share);
      RT_UNROLL for (int i = 0; i < rows; i++) {
        const rt_vec x = rt_splat(p[i * lda]), y = rt_splat(p[i * lda + imag]);
        RT_UNROLL for (int v = 0; v < vecs; v++) {
          re[i * vecs + v] += x * wr[v];
          im[i * vecs + v] += x * wi[v];
        }
        RT_UNROLL for (int v = 0; v < vecs; v++) {
          re[i * vecs + v] -= y * wi[v];
          im[i * vecs + v] += y * wr[v];
        }
      }
    }
  }
  RT_UNROLL for (int i = 0; i < rows; i++) RT_UNROLL for (int v = 0; v < vecs; v++) {
    float *q = o + i * ldo + v * RT_WIDTH;
    if (v == vecs - 1 && part) {
      rt_store_part(q, re[i * vecs + v], part);
      rt_store_part(q + other, im[i * vecs + v], part);
    } else {
      rt_store(q, re[i * vecs + v]);
      rt_store(q + other, im[i * vecs + v]);
    }
  }
}

#define RT_WAVE_BLOCKS(COUNT, ROWS, VECS, LDA, IMAG, SHARE)                                                             \
  for (int i = 0; i < (COUNT);                                                                                          \
       i++, p += (ROWS) * (LDA), q += (ROWS) * ldo, next.from += (uintptr_t)(k * next.step))                            \
    rt_wave_block(ROWS, VECS, LDA, IMAG, p, taps, w, next, SHARE, q, ldo, other, part);
#define RT_WAVE_PANEL(N, MOST, VECS, LDA, IMAG)                                                                         \
  {                                                                                                                     \
    const float *p = a;                                                                                                 \
    float *q = o + c;                                                                                                   \
    rt_next next = rt_next_of(w, 2 * k * (VECS) * RT_WIDTH, 2 * (VECS) * RT_WIDTH, RT_PARTS(N, MOST));                  \
    RT_WAVE_BLOCKS((N) % RT_PARTS(N, MOST), (N) / RT_PARTS(N, MOST) + 1, VECS, LDA, IMAG, RT_PARTS(N, MOST))            \
    RT_WAVE_BLOCKS(RT_PARTS(N, MOST) - (N) % RT_PARTS(N, MOST), (N) / RT_PARTS(N, MOST), VECS, LDA, IMAG,               \
                   RT_PARTS(N, MOST))                                                                                   \
  }

/* One instance for a number of rows, the step between them, and that to the imaginary parts. */
#define RT_WAVES(NAME, N, LDA, IMAG)                                                                                    \
  static __attribute__((noinline)) void NAME(const float *a, const rt_taps *taps, const float *w, float *o,             \
                                             ptrdiff_t ldo, ptrdiff_t other, int channels) {                            \
    const ptrdiff_t k = (ptrdiff_t)taps->n1 * taps->n2;                                                                 \
    int c = 0;                                                                                                          \
    for (; channels - c > RT_WIDTH; c += RT_PANEL, w += 2 * k * RT_PANEL) {                                                \
      const int part = channels - c < RT_PANEL ? channels - c - RT_WIDTH : 0;                                           \
      RT_WAVE_PANEL(N, RT_WAVE_ROWS, 2, LDA, IMAG)                                                                      \
    }                                                                                                                   \
    if (c < channels) {                                                                                                 \
      const int part = channels - c < RT_WIDTH ? channels - c : 0;                                                      \
      RT_WAVE_PANEL(N, RT_WAVE_ROWS_1, 1, LDA, IMAG)                                                                    \
    }                                                                                                                   \
  }

/* Weights of a wave: w[channel][j][tap] of the phases in panels [phase][j][re, im], summed in double precision with the
 * cosines of pi j / n for j below 2 n, and divided by the waves of a tile. */
RT_UNUSED static void rt_pack_wave(const float *w, int taps, int stride, const double *cosine, int n, int wave, int inputs,
                                   int channels, float *out) {
  for (int p = 0; p < channels; p += RT_PANEL) {
    const int wide = channels - p > RT_WIDTH ? RT_PANEL : RT_WIDTH;
    for (int phase = 0; phase < stride; phase++)
      for (int j = 0; j < inputs; j++, out += 2 * wide)
        for (int c = 0; c < wide; c++) {
          double re = 0, im = 0;
          for (int k = 0; k * stride + phase < taps && p + c < channels; k++) {
            const double tap = w[((ptrdiff_t)(p + c) * inputs + j) * taps + k * stride + phase];
            const int at = (4 * wave + 1) * k % (2 * n);
            re += tap * cosine[at];
            im += tap * cosine[(at + 3 * n / 2) % (2 * n)];
          }
          out[c] = (float)(re / (n / 2));
          out[wide + c] = (float)(im / (n / 2));
        }
  }
}
#endif
