// What the kernels compute, for one thread at a time. They are compiled once for each instruction set.
#pragma once
#include <stdint.h>

// A bfloat16: the upper half of a float. It is read as one, computed with as one, and rounded to the nearest when written.
struct Bf16 {
  uint16_t bits;
};

// Dropout: which of the numbers of a row stay, and what those are multiplied by.
struct Dropout {
  uint64_t seed;
  uint32_t below;  // a number is dropped if its random word is below this; 0 drops nothing
  float scale;     // 1 / (1 - p)
};

// One head of one sequence: rows of `size` numbers each, `hidden` apart. Keys and values have `time` rows, all else has
// `queries`.
template <class T>
struct Head {
  long queries, time, size, hidden;
  const T *q, *k, *v;
  T *out;
  float *logsum;  // the logarithm of the sum of the exponentials of a row's scores, [queries]
  const T *dout;
  T *dq, *dk, *dv;
  Dropout dropout;
  uint64_t row;  // number of the first row among all rows that dropout sees
};

// The end of a sublayer, row by row: `sum` is what dropout leaves of `ys`, plus `xs`; `out` its LayerNorm. All are
// [rows, hidden]; `mean` and `scale` (one over the deviation) are [rows].
template <class T>
struct Norm {
  long hidden;
  const T *ys, *xs;
  const float *weight, *bias;
  float eps;
  Dropout dropout;
  T *sum, *out;
  float *mean, *scale;
  // Back: gradients, of which `dys` is null where nothing is dropped and is `dsum` then; `dweight` and `dbias` [hidden] are
  // added to, or null.
  const T *dout;
  T *dsum, *dys;
  float *dweight, *dbias;
};

// Cross-entropy, row by row: `logits` are [rows, classes], all else is [rows].
template <class T>
struct Loss {
  long classes;
  const T *logits;
  const int64_t *targets;
  float *losses;
  float *logsums;  // the logarithm of the sum of the exponentials of a row
  // Back: the gradient of each loss, and of the logits.
  float dloss;
  T *dlogits;
};

// A parameter in training, whose numbers are f32. `copy` is the same in the numbers that are computed with; null where it is
// the parameter itself. Its gradient is the sum of those there are, the parameter's and the copy's.
template <class T>
struct Weights {
  float *weight, *exp_avg, *exp_avg_sq;
  const float *grad;
  T *copy;
  const T *copy_grad;
};

// A step of AdamW (Loshchilov and Hutter 2019, algorithm 2): gradients are multiplied by `scale`, weights by `kept`.
struct AdamW {
  float scale, kept;
  float first;           // 1 - beta 1
  float second, square;  // beta 2, 1 - beta 2
  float correction;      // what the root of the second moment is multiplied by
  float epsilon, rate;
};

template <class T>
struct Attention {
  // Floats of scratch that a head needs, forward or back.
  long (*scratch)(long time, long size, bool back);
  void (*forward)(const Head<T> *, float *scratch);
  void (*back)(const Head<T> *, float *scratch);
};

// Each of rows `first` to `last`.
template <class T>
struct Rows {
  // ys = xs dropped, for `count` numbers of row `row`.
  void (*drop)(const Dropout *, uint64_t row, long count, const T *xs, T *ys);
  // Floats of scratch that LayerNorm needs.
  long (*norm_scratch)(long hidden);
  void (*norm)(const Norm<T> *, long first, long last, float *scratch);
  void (*norm_back)(const Norm<T> *, long first, long last, float *scratch);
  void (*loss)(const Loss<T> *, long first, long last);
  void (*loss_back)(const Loss<T> *, long first, long last);
  // Of numbers `first` to `last` of a parameter: the sum of the squares of its gradient, and a step.
  double (*squares)(const Weights<T> *, long first, long last);
  void (*adamw)(const Weights<T> *, const AdamW *, long first, long last);
};

template <template <class> class Kernels>
struct Both {
  Kernels<float> whole;
  Kernels<Bf16> half;
};

// Those of each set of instructions; other processors have one.
#ifndef __x86_64__
#define tapt_attention_avx2 tapt_attention_base
#define tapt_attention_avx512 tapt_attention_base
#define tapt_rows_avx2 tapt_rows_base
#define tapt_rows_avx512 tapt_rows_base
#endif
extern "C" const Both<Attention> tapt_attention_base, tapt_attention_avx2, tapt_attention_avx512;
extern "C" const Both<Rows> tapt_rows_base, tapt_rows_avx2, tapt_rows_avx512;
