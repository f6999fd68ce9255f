// What is computed row by row: dropout, the end of a sublayer, cross-entropy; and AdamW, number by number. No header of
// others that has inline functions may be named here, see floats.h.
#include "floats.h"

namespace {

template <class T>
void drop(const Dropout *dropout, uint64_t row, long count, const T *xs, T *ys) {
  float by[BLOCK];
  for (long from = 0; from < count; from += BLOCK) {
    factors(*dropout, row, from / BLOCK, by);
    const long here = least(BLOCK, count - from);
    for (long i = 0; i < here; i += WIDTH)
      store(load(xs + from + i, here - i, 0) * *(Floats *)(by + i), ys + from + i, here - i);
  }
}

// Where things lie in the scratch of a row: each has room for whole registers.
struct Scratch {
  long width;
  float *row, *grads, *weight, *bias, *dweight, *dbias, *factors;

  Scratch(long hidden, float *at) : width(round_up(hidden)) {
    float **all[] = {&row, &grads, &weight, &bias, &dweight, &dbias, &factors};
    for (float **each : all) *each = at, at += width;
  }
};

long norm_scratch(long hidden) { return 7 * round_up(hidden) + BLOCK; }

// With zeros at the end.
void copy(long count, const float *from, float *to) {
  for (long i = 0; i < count; i += WIDTH) store(load(from + i, count - i, 0), to + i);
}

void fill(const Dropout &dropout, long row, long hidden, float *to) {
  for (long block = 0; block * BLOCK < hidden; block++) factors(dropout, row, block, to + block * BLOCK);
}

// The sum of a row, as it is written, and its mean and scale.
template <class T>
void norm_row(const Norm<T> *norm, const Scratch &room, long i) {
  const long hidden = norm->hidden, at = i * hidden;
  const bool drops = norm->dropout.below > 0;
  if (drops) fill(norm->dropout, i, hidden, room.factors);
  Floats sums = {};
  for (long c = 0; c < hidden; c += WIDTH) {
    const long left = hidden - c;
    Floats ys = load(norm->ys + at + c, left, 0);
    if (drops) ys *= *(Floats *)(room.factors + c);
    store(ys + load(norm->xs + at + c, left, 0), norm->sum + at + c, left);
    const Floats written = load(norm->sum + at + c, left, 0);
    *(Floats *)(room.row + c) = written;
    sums += written;
  }
  const float mean = sum(sums) / hidden;
  Floats squares = {};
  for (long c = 0; c < hidden; c++) room.row[c] -= mean;
  for (long c = 0; c < room.width; c += WIDTH) squares += *(Floats *)(room.row + c) * *(Floats *)(room.row + c);
  norm->mean[i] = mean, norm->scale[i] = 1 / __builtin_sqrtf(sum(squares) / hidden + norm->eps);
}

template <class T>
void norm(const Norm<T> *norm, long first, long last, float *scratch) {
  const long hidden = norm->hidden;
  const Scratch room(hidden, scratch);
  copy(hidden, norm->weight, room.weight);
  copy(hidden, norm->bias, room.bias);
  for (long i = first; i < last; i++) {
    norm_row(norm, room, i);
    for (long c = 0; c < hidden; c += WIDTH) {
      const Floats xs = *(Floats *)(room.row + c) * norm->scale[i];
      const Floats ys = xs * *(Floats *)(room.weight + c) + *(Floats *)(room.bias + c);
      store(ys, norm->out + i * hidden + c, hidden - c);
    }
  }
}

// The gradient of a row's sum, and of what dropout was given.
template <class T>
void norm_row_back(const Norm<T> *norm, const Scratch &room, long i) {
  const long hidden = norm->hidden, at = i * hidden;
  const float mean = norm->mean[i], scale = norm->scale[i];
  Floats of_grads = {}, of_products = {};
  for (long c = 0; c < hidden; c += WIDTH) {
    const Floats dout = load(norm->dout + at + c, hidden - c, 0);
    // Beyond the end gradients are 0, and so is all that they are multiplied with.
    const Floats xs = (load(norm->sum + at + c, hidden - c, 0) - mean) * scale;
    const Floats grads = dout * *(Floats *)(room.weight + c);
    *(Floats *)(room.dweight + c) += dout * xs;
    *(Floats *)(room.dbias + c) += dout;
    *(Floats *)(room.row + c) = xs, *(Floats *)(room.grads + c) = grads;
    of_grads += grads, of_products += grads * xs;
  }
  const float grad = sum(of_grads) / hidden, along = sum(of_products) / hidden;
  if (norm->dys) fill(norm->dropout, i, hidden, room.factors);
  for (long c = 0; c < hidden; c += WIDTH) {
    const Floats dsum = (*(Floats *)(room.grads + c) - grad - *(Floats *)(room.row + c) * along) * scale;
    store(dsum, norm->dsum + at + c, hidden - c);
    if (norm->dys) store(dsum * *(Floats *)(room.factors + c), norm->dys + at + c, hidden - c);
  }
}

template <class T>
void norm_back(const Norm<T> *norm, long first, long last, float *scratch) {
  const long hidden = norm->hidden;
  const Scratch room(hidden, scratch);
  copy(hidden, norm->weight, room.weight);
  for (long c = 0; c < room.width; c++) room.dweight[c] = room.dbias[c] = 0;
  for (long i = first; i < last; i++) norm_row_back(norm, room, i);
  if (!norm->dweight) return;
  for (long c = 0; c < hidden; c++) norm->dweight[c] += room.dweight[c], norm->dbias[c] += room.dbias[c];
}

template <class T>
void loss(const Loss<T> *loss, long first, long last) {
  const long classes = loss->classes;
  const float lowest = -__builtin_inff();
  for (long i = first; i < last; i++) {
    const T *row = loss->logits + i * classes;
    Floats tops = Floats{} + lowest;
    for (long c = 0; c < classes; c += WIDTH) {
      const Floats xs = load(row + c, classes - c, lowest);
      tops = xs > tops ? xs : tops;
    }
    float top = tops[0];
    for (int lane = 1; lane < WIDTH; lane++) top = tops[lane] > top ? tops[lane] : top;
    Floats sums = {};
    for (long c = 0; c < classes; c += WIDTH)
      sums += exponential(load(row + c, classes - c, lowest) - top);
    loss->logsums[i] = top + __builtin_logf(sum(sums));
    loss->losses[i] = loss->logsums[i] - get(row[loss->targets[i]]);
  }
}

template <class T>
void loss_back(const Loss<T> *loss, long first, long last) {
  const long classes = loss->classes;
  for (long i = first; i < last; i++) {
    const T *row = loss->logits + i * classes;
    T *grads = loss->dlogits + i * classes;
    for (long c = 0; c < classes; c += WIDTH) {
      const Floats shares = exponential(load(row + c, classes - c, 0) - loss->logsums[i]);
      store(shares * loss->dloss, grads + c, classes - c);
    }
    const long target = loss->targets[i];
    const float share = __builtin_expf(get(row[target]) - loss->logsums[i]);
    put((share - 1) * loss->dloss, grads[target]);
  }
}

// Sixteen numbers of a gradient.
template <class T>
inline Floats gradient(const Weights<T> *of, long i, long left) {
  Floats own = of->grad ? load(of->grad + i, left, 0) : Floats{};
  if (of->copy_grad) own += load(of->copy_grad + i, left, 0);
  return own;
}

template <class T>
double squares(const Weights<T> *of, long first, long last) {
  // So few that a float holds their sum well.
  constexpr long FEW = 4096;
  double all = 0;
  for (long from = first; from < last; from += FEW) {
    Floats sums = {};
    for (long i = from; i < least(from + FEW, last); i += WIDTH) {
      const Floats own = gradient(of, i, last - i);
      sums += own * own;
    }
    all += sum(sums);
  }
  return all;
}

inline Floats root(Floats xs) {
  for (int lane = 0; lane < WIDTH; lane++) xs[lane] = __builtin_sqrtf(xs[lane]);
  return xs;
}

template <class T>
void adamw(const Weights<T> *of, const AdamW *by, long first, long last) {
  for (long i = first; i < last; i += WIDTH) {
    const long left = last - i;
    const Floats grad = gradient(of, i, left) * by->scale;
    Floats average = load(of->exp_avg + i, left, 0), square = load(of->exp_avg_sq + i, left, 0);
    average += by->first * (grad - average);
    square = square * by->second + grad * grad * by->square;
    const Floats step = by->rate * average / (root(square) * by->correction + by->epsilon);
    const Floats weight = load(of->weight + i, left, 0) * by->kept - step;
    store(average, of->exp_avg + i, left), store(square, of->exp_avg_sq + i, left);
    store(weight, of->weight + i, left);
    if (of->copy) store(weight, of->copy + i, left);
  }
}

}  // namespace

extern "C" const Both<Rows> TAPT_ROWS = {
    {drop<float>, norm_scratch, norm<float>, norm_back<float>, loss<float>, loss_back<float>,
     squares<float>, adamw<float>},
    {drop<Bf16>, norm_scratch, norm<Bf16>, norm_back<Bf16>, loss<Bf16>, loss_back<Bf16>,
     squares<Bf16>, adamw<Bf16>},
};
