// Attention within a sequence, on plain floats. No header of others that has inline functions may be named here, see floats.h.
#include "floats.h"

namespace {

// Queries whose scores lie in the cache at a time.
constexpr long ROWS = 64;
// Rows and columns of a product that lie in registers.
#ifdef __AVX512F__
constexpr int HIGH = 8, BROAD = 2;
#else
constexpr int HIGH = 6, BROAD = 1;
#endif

// A matrix whose element (row, column) lies at `row * down + column * along`.
struct Matrix {
  const float *at;
  long down, along;
};

// R rows and C times sixteen columns of c (+)= a b; the rows of b and c are contiguous.
template <int R, int C>
void tile(long inner, Matrix a, const float *b, long b_down, float *c, long c_down, bool add) {
  Floats sums[R][C] = {};
  for (long k = 0; k < inner; k++) {
    Floats right[C];
    for (int j = 0; j < C; j++) right[j] = *(const Floats *)(b + k * b_down + j * WIDTH);
    for (int i = 0; i < R; i++) {
      const float left = a.at[i * a.down + k * a.along];
      for (int j = 0; j < C; j++) sums[i][j] += right[j] * left;
    }
  }
  for (int i = 0; i < R; i++) {
    for (int j = 0; j < C; j++) {
      Floats *to = (Floats *)(c + i * c_down + j * WIDTH);
      *to = add ? *to + sums[i][j] : sums[i][j];
    }
  }
}

template <int C>
void strip(long rows, long inner, Matrix a, const float *b, long b_down, float *c, long c_down, bool add) {
  long i = 0;
  const auto from = [&] { return Matrix{a.at + i * a.down, a.down, a.along}; };
  for (; i + HIGH <= rows; i += HIGH) tile<HIGH, C>(inner, from(), b, b_down, c + i * c_down, c_down, add);
  for (; i + 2 <= rows; i += 2) tile<2, C>(inner, from(), b, b_down, c + i * c_down, c_down, add);
  for (; i < rows; i++) tile<1, C>(inner, from(), b, b_down, c + i * c_down, c_down, add);
}

// c (+)= a b with `columns` a multiple of sixteen.
void product(long rows, long columns, long inner, Matrix a, const float *b, long b_down, float *c, long c_down, bool add) {
  long j = 0;
  for (; j + BROAD * WIDTH <= columns; j += BROAD * WIDTH)
    strip<BROAD>(rows, inner, a, b + j, b_down, c + j, c_down, add);
  for (; j < columns; j += WIDTH) strip<1>(rows, inner, a, b + j, b_down, c + j, c_down, add);
}

// Rows `stride` apart, end to end with zeros up to `width`.
template <class T>
void pack(long rows, long size, const T *from, long stride, float *to, long width) {
  for (long i = 0; i < rows; i++) {
    for (long c = 0; c < size; c++) to[i * width + c] = get(from[i * stride + c]);
    for (long c = size; c < width; c++) to[i * width + c] = 0;
  }
}

template <class T>
void pack_turned(long rows, long size, const T *from, long stride, float *to, long width) {
  for (long c = 0; c < size; c++) {
    for (long i = 0; i < rows; i++) to[c * width + i] = get(from[i * stride + c]);
    for (long i = rows; i < width; i++) to[c * width + i] = 0;
  }
}

template <class T>
void unpack(long rows, long size, const float *from, long width, T *to, long stride) {
  for (long i = 0; i < rows; i++)
    for (long c = 0; c < size; c++) put(from[i * width + c], to[i * stride + c]);
}

void clear(long count, float *at) {
  for (long i = 0; i < count; i++) at[i] = 0;
}

// Where things lie in the scratch of a head.
struct Scratch {
  long keys, size;  // rounded up to a register
  float *k_turned, *v, *q, *scores, *factors, *block;      // both ways
  float *v_turned, *k, *dout, *out, *weights, *dk, *dv;  // back
  long used = 0;

  Scratch(long time, long head, float *at, bool back) : keys(round_up(time)), size(round_up(head)) {
    const auto take = [&](long floats) {
      used += floats;
      return at ? at + used - floats : nullptr;
    };
    const long turned = head * keys, table = time * size, square = ROWS * keys, queries = ROWS * size;
    k_turned = take(turned), v = take(table), q = take(queries), scores = take(square);
    factors = take(keys + BLOCK), block = take(queries);
    if (!back) return;
    v_turned = take(turned), k = take(table), dout = take(queries), out = take(queries), weights = take(square);
    dk = take(table), dv = take(table);
  }
};

long scratch(long time, long size, bool back) { return Scratch(time, size, nullptr, back).used; }

// What dropout multiplies the weights of a query by.
template <class T>
void fill(const Head<T> *head, const Scratch &room, long query) {
  for (long block = 0; block * BLOCK < room.keys; block++)
    factors(head->dropout, head->row + query, block, room.factors + block * BLOCK);
}

// Scores of a row to their exponentials over their sum; gives the logarithm of that sum.
float softmax(long time, long keys, float scale, float *row) {
  for (long j = time; j < keys; j++) row[j] = -__builtin_inff();
  Floats tops = *(Floats *)row;
  for (long j = WIDTH; j < keys; j += WIDTH) tops = *(Floats *)(row + j) > tops ? *(Floats *)(row + j) : tops;
  float most = tops[0];
  for (int i = 1; i < WIDTH; i++) most = tops[i] > most ? tops[i] : most;
  const float top = most * scale;
  Floats sums = {};
  for (long j = 0; j < keys; j += WIDTH) {
    Floats *at = (Floats *)(row + j);
    *at = exponential(*at * scale - top);
    sums += *at;
  }
  const float all = sum(sums);
  for (long j = 0; j < keys; j += WIDTH) *(Floats *)(row + j) *= 1 / all;
  return top + __builtin_logf(all);
}

template <class T>
void attend(const Head<T> *head, float *scratch) {
  const long time = head->time, size = head->size, hidden = head->hidden;
  const Scratch room(time, size, scratch, false);
  pack_turned(time, size, head->k, hidden, room.k_turned, room.keys);
  pack(time, size, head->v, hidden, room.v, room.size);
  const float scale = 1 / __builtin_sqrtf(float(size));
  for (long from = 0; from < head->queries; from += ROWS) {
    const long rows = least(ROWS, head->queries - from);
    pack(rows, size, head->q + from * hidden, hidden, room.q, room.size);
    const Matrix q = {room.q, room.size, 1};
    product(rows, room.keys, size, q, room.k_turned, room.keys, room.scores, room.keys, false);
    for (long i = 0; i < rows; i++) {
      float *row = room.scores + i * room.keys;
      head->logsum[from + i] = softmax(time, room.keys, scale, row);
      if (head->dropout.below == 0) continue;
      fill(head, room, from + i);
      for (long j = 0; j < room.keys; j += WIDTH) *(Floats *)(row + j) *= *(Floats *)(room.factors + j);
    }
    const Matrix weights = {room.scores, room.keys, 1};
    product(rows, room.size, time, weights, room.v, room.size, room.block, room.size, false);
    unpack(rows, size, room.block, room.size, head->out + from * hidden, hidden);
  }
}

// Of one row: its weights as they met the values, and the gradient of its scores, times the scale.
template <class T>
void row_back(const Head<T> *head, const Scratch &room, long i, long from, float scale) {
  float *weights = room.weights + i * room.keys, *scores = room.scores + i * room.keys;
  const float *dout = room.dout + i * room.size, *out = room.out + i * room.size;
  Floats products = {};
  for (long c = 0; c < room.size; c += WIDTH) products += *(Floats *)(dout + c) * *(Floats *)(out + c);
  const float logsum = head->logsum[from + i], inner = sum(products);
  if (head->dropout.below > 0) fill(head, room, from + i);
  for (long j = 0; j < room.keys; j += WIDTH) {
    const Floats weight = exponential(*(Floats *)(weights + j) * scale - logsum);
    const Floats factor = head->dropout.below > 0 ? *(Floats *)(room.factors + j) : Floats{} + 1.0f;
    *(Floats *)(scores + j) = weight * (factor * *(Floats *)(scores + j) - inner) * scale;
    *(Floats *)(weights + j) = weight * factor;
  }
}

// A block of queries: their own gradient, and what they add to those of keys and values.
template <class T>
void block_back(const Head<T> *head, const Scratch &room, long from, long rows) {
  const long time = head->time, size = head->size, hidden = head->hidden;
  const float scale = 1 / __builtin_sqrtf(float(size));
  pack(rows, size, head->q + from * hidden, hidden, room.q, room.size);
  pack(rows, size, head->out + from * hidden, hidden, room.out, room.size);
  pack(rows, size, head->dout + from * hidden, hidden, room.dout, room.size);
  const Matrix q = {room.q, room.size, 1}, dout = {room.dout, room.size, 1};
  product(rows, room.keys, size, q, room.k_turned, room.keys, room.weights, room.keys, false);
  product(rows, room.keys, size, dout, room.v_turned, room.keys, room.scores, room.keys, false);
  for (long i = 0; i < rows; i++) row_back(head, room, i, from, scale);
  const Matrix scores = {room.scores, room.keys, 1};
  product(rows, room.size, time, scores, room.k, room.size, room.block, room.size, false);
  unpack(rows, size, room.block, room.size, head->dq + from * hidden, hidden);
  const Matrix turned = {room.scores, 1, room.keys}, weights = {room.weights, 1, room.keys};
  product(time, room.size, rows, turned, room.q, room.size, room.dk, room.size, true);
  product(time, room.size, rows, weights, room.dout, room.size, room.dv, room.size, true);
}

template <class T>
void attend_back(const Head<T> *head, float *scratch) {
  const long time = head->time, size = head->size, hidden = head->hidden;
  const Scratch room(time, size, scratch, true);
  pack_turned(time, size, head->k, hidden, room.k_turned, room.keys);
  pack_turned(time, size, head->v, hidden, room.v_turned, room.keys);
  pack(time, size, head->k, hidden, room.k, room.size);
  clear(time * room.size, room.dk);
  clear(time * room.size, room.dv);
  for (long from = 0; from < head->queries; from += ROWS) block_back(head, room, from, least(ROWS, head->queries - from));
  unpack(time, size, room.dk, room.size, head->dk, hidden);
  unpack(time, size, room.dv, room.size, head->dv, hidden);
}

}  // namespace

extern "C" const Both<Attention> TAPT_ATTENTION = {
    {scratch, attend<float>, attend_back<float>},
    {scratch, attend<Bf16>, attend_back<Bf16>},
};
