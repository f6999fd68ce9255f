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

template <class T>
struct Kernels {
  // Floats of scratch that a head needs, forward or back.
  long (*scratch)(long time, long size, bool back);
  void (*attend)(const Head<T> *, float *scratch);
  void (*attend_back)(const Head<T> *, float *scratch);
  // ys = xs dropped, for `count` numbers of row `row`.
  void (*drop)(const Dropout *, uint64_t row, long count, const T *xs, T *ys);
};

// Those of one instruction set.
struct Set {
  Kernels<float> whole;
  Kernels<Bf16> half;
};

extern "C" const Set tapt_kernels_base, tapt_kernels_avx2, tapt_kernels_avx512;
