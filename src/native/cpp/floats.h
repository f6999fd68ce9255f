// Sixteen floats at a time, and what is computed of them. Everything here is of the file that includes it alone: compiled
// for a later instruction set, the linker might else choose that copy for every machine.
#pragma once
#include "kernels.h"

namespace {

// Sixteen floats: one register of AVX-512, two of AVX2, four of the base.
constexpr long WIDTH = 16;
typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

inline long round_up(long n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
inline long least(long a, long b) { return a < b ? a : b; }

// Threefry 4x32 with twelve rounds, the fewest that pass BigCrush (Salmon et al. 2011, table 2): sixteen counters at once,
// four words of each. It only adds, rotates and exclusively-ors, which every instruction set does for all of them at once.
inline Words turned(Words xs, int by) { return xs << by | xs >> (32 - by); }

inline void mix(Words &a, Words &b, int by) {
  a += b;
  b = turned(b, by) ^ a;
}

inline void threefry(uint64_t seed, uint64_t row, uint32_t block, Words out[4]) {
  constexpr int TURNS[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
  // The key has four words, of which the seed is two.
  const uint32_t keys[5] = {uint32_t(seed), uint32_t(seed >> 32), 0, 0, uint32_t(seed) ^ uint32_t(seed >> 32) ^ 0x1BD11BDA};
  const Words none = {}, lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Words xs[4] = {lanes + block * uint32_t(WIDTH), none + uint32_t(row), none + uint32_t(row >> 32), none};
  for (int i = 0; i < 4; i++) xs[i] += keys[i];
#pragma GCC unroll 12
  for (int round = 0; round < 12; round++) {
    const int *by = TURNS[round % 8];
    mix(xs[0], xs[round % 2 ? 3 : 1], by[0]);
    mix(xs[2], xs[round % 2 ? 1 : 3], by[1]);
    if (round % 4 != 3) continue;
    const int next = round / 4 + 1;
    for (int i = 0; i < 4; i++) xs[i] += keys[(next + i) % 5];
    xs[3] += uint32_t(next);
  }
  for (int i = 0; i < 4; i++) out[i] = xs[i];
}

// Numbers that one call of `factors` is for.
constexpr long BLOCK = 4 * WIDTH;

// What the numbers of a block of a row are multiplied by: 0 or the scale.
inline void factors(const Dropout &dropout, uint64_t row, long block, float *to) {
  Words words[4];
  threefry(dropout.seed, row, uint32_t(block), words);
  const Floats scale = Floats{} + dropout.scale;
  for (int lane = 0; lane < 4; lane++)
    *(Floats *)(to + lane * WIDTH) = words[lane] < dropout.below ? Floats{} : scale;
}

// e to the x for x at most 0, to a rounding or two: 2 to the n times a polynomial of the rest (Cephes' coefficients).
inline Floats exponential(Floats x) {
  x = x < -87.0f ? Floats{} - 87.0f : x;
  const Floats turns = x * 1.44269504088896341f - 0.5f;
  const Ints n = __builtin_convertvector(turns, Ints);
  const Floats whole = __builtin_convertvector(n, Floats);
  const Floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Floats p = Floats{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (Floats)((n + 127) << 23);
}

inline float get(float x) { return x; }

inline float get(Bf16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}

inline void put(float x, float &to) { to = x; }

inline void put(float x, Bf16 &to) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint32_t nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  to.bits = uint16_t(x == x ? nearest : 0x7FC0);
}

// Sixteen numbers as floats, and back.
inline Floats load(const float *from) { return *(const Floats *)from; }

inline Floats load(const Bf16 *from) { return (Floats)(__builtin_convertvector(*(const Halves *)from, Words) << 16); }

inline void store(Floats xs, float *to) { *(Floats *)to = xs; }

inline void store(Floats xs, Bf16 *to) {
  const Words bits = (Words)xs, nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  *(Halves *)to = __builtin_convertvector(xs == xs ? nearest : Words{} + 0x7FC0, Halves);
}

// The first `count` of sixteen numbers, fewer than all at the end of a row; the others are `else_`.
template <class T>
inline Floats load(const T *from, long count, float else_) {
  if (count >= WIDTH) return load(from);
  Floats xs = Floats{} + else_;
  for (long i = 0; i < count; i++) xs[i] = get(from[i]);
  return xs;
}

template <class T>
inline void store(Floats xs, T *to, long count) {
  if (count >= WIDTH) return store(xs, to);
  for (long i = 0; i < count; i++) put(xs[i], to[i]);
}

inline float sum(Floats xs) {
  float all = 0;
  for (int i = 0; i < WIDTH; i++) all += xs[i];
  return all;
}

}  // namespace
