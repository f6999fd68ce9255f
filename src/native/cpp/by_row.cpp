// Operations on rows, on the CPU: dropout, the end of a sublayer, cross-entropy, rows of a table.
#include "face.h"

namespace {

// Numbers that dropout counts as one row.
constexpr int64_t ROW = 4096;
// Parts that the gradients of LayerNorm's weights are added up in: however many threads, the sums are the same.
constexpr int64_t PARTS = 16;

template <class T>
const Rows<T> &kernels() {
  return of_type<T>(fitting(tapt_rows_base, tapt_rows_avx2, tapt_rows_avx512));
}

template <class T>
void drop(const Dropout &dropout, const Tensor &from, const Tensor &to) {
  const int64_t count = from.numel();
  const T *xs = in<T>(from);
  T *ys = out_of<T>(to);
  at::parallel_for(0, (count + ROW - 1) / ROW, 4, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const int64_t at = row * ROW;
      kernels<T>().drop(&dropout, row, std::min(ROW, count - at), xs + at, ys + at);
    }
  });
}

Tensor dropped(const Dropout &dropout, const Tensor &xs) {
  const Tensor from = xs.contiguous(), to = at::empty_like(from);
  by_type(from, [&](auto number) { drop<decltype(number)>(dropout, from, to); });
  return to;
}

// Dropout that keeps its seed and no mask.
struct Drop : torch::autograd::Function<Drop> {
  static Tensor forward(AutogradContext *ctx, const Tensor &xs, double p) {
    check(xs);
    const Dropout dropout = dropout_of(p);
    save(ctx, dropout);
    return dropped(dropout, xs);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    return {dropped(saved(ctx), grads[0]), Tensor()};
  }
};

// Dropout, the residual connection and LayerNorm as one: LayerNorm(xs + dropped ys), all [rows, hidden].
struct AddNorm : torch::autograd::Function<AddNorm> {
  template <class T>
  static Norm<T> rows(const Tensor &sum, const Tensor &weight, const Tensor &mean, const Tensor &scale, const Dropout &dropout) {
    Norm<T> norm{};
    norm.hidden = sum.size(1), norm.dropout = dropout, norm.weight = in<float>(weight);
    norm.sum = out_of<T>(sum), norm.mean = out_of<float>(mean), norm.scale = out_of<float>(scale);
    return norm;
  }

  static Tensor forward(AutogradContext *ctx, const Tensor &ys_, const Tensor &xs_, const Tensor &weight, const Tensor &bias,
                        double eps, double p) {
    const Tensor ys = ys_.contiguous(), xs = xs_.contiguous();
    check(ys), check(xs);
    TORCH_CHECK(ys.dim() == 2 && ys.sizes() == xs.sizes() && ys.scalar_type() == xs.scalar_type(), "what is added differs");
    for (const Tensor *own : {&weight, &bias}) {
      TORCH_CHECK(own->scalar_type() == at::kFloat && own->is_contiguous(), "LayerNorm's weights are f32");
      TORCH_CHECK(own->numel() == ys.size(1), own->numel(), " weights for ", ys.size(1), " columns");
    }
    const Dropout dropout = dropout_of(p);
    const Tensor sum = at::empty_like(ys), out = at::empty_like(ys);
    const Tensor mean = at::empty({ys.size(0)}, weight.options().requires_grad(false)), scale = at::empty_like(mean);
    by_type(ys, [&](auto number) {
      using T = decltype(number);
      Norm<T> norm = rows<T>(sum, weight, mean, scale, dropout);
      norm.ys = in<T>(ys), norm.xs = in<T>(xs), norm.bias = in<float>(bias), norm.eps = eps, norm.out = out_of<T>(out);
      each<T>(ys.size(0), norm.hidden, [&](int64_t first, int64_t last, float *scratch, int64_t) {
        kernels<T>().norm(&norm, first, last, scratch);
      });
    });
    ctx->save_for_backward({sum, weight, mean, scale});
    save(ctx, dropout);
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const Tensor &sum = kept[0], &weight = kept[1], dout = grads[0].contiguous();
    const Dropout dropout = saved(ctx);
    const Tensor dsum = at::empty_like(sum), dys = dropout.below > 0 ? at::empty_like(sum) : dsum;
    const bool trains = ctx->needs_input_grad(2) || ctx->needs_input_grad(3);
    const Tensor own = trains ? at::zeros({2, PARTS, sum.size(1)}, weight.options().requires_grad(false)) : Tensor();
    by_type(sum, [&](auto number) {
      using T = decltype(number);
      Norm<T> norm = rows<T>(sum, weight, kept[2], kept[3], dropout);
      norm.dout = in<T>(dout), norm.dsum = out_of<T>(dsum), norm.dys = dropout.below > 0 ? out_of<T>(dys) : nullptr;
      each<T>(sum.size(0), norm.hidden, [&](int64_t first, int64_t last, float *scratch, int64_t part) {
        Norm<T> here = norm;
        if (trains) here.dweight = out_of<float>(own) + part * norm.hidden, here.dbias = here.dweight + PARTS * norm.hidden;
        kernels<T>().norm_back(&here, first, last, scratch);
      });
    });
    if (!trains) return {dys, dsum, Tensor(), Tensor(), Tensor(), Tensor()};
    const Tensor both = own.sum(1);
    return {dys, dsum, both[0], both[1], Tensor(), Tensor()};
  }

 private:
  // Rows in as many parts as `PARTS`, each by one thread.
  template <class T, class Work>
  static void each(int64_t count, int64_t hidden, Work work) {
    const int64_t size = (count + PARTS - 1) / PARTS;
    at::parallel_for(0, PARTS, 1, [&](int64_t begin, int64_t end) {
      const Tensor floats = at::empty({kernels<T>().norm_scratch(hidden)}, at::kFloat);
      for (int64_t part = begin; part < end; part++) {
        const int64_t first = part * size, last = std::min(count, first + size);
        if (first < last) work(first, last, floats.mutable_data_ptr<float>(), part);
      }
    });
  }
};

// The cross-entropy of logits [rows, classes] to targets [rows], added up. Shares of the classes are never stored.
struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static Tensor forward(AutogradContext *ctx, const Tensor &logits_, const Tensor &targets_) {
    const Tensor logits = logits_.contiguous(), targets = targets_.contiguous();
    check(logits);
    const bool fits = logits.dim() == 2 && targets.dim() == 1 && targets.size(0) == logits.size(0);
    TORCH_CHECK(fits && targets.scalar_type() == at::kLong, "a target for each row of logits");
    const int64_t rows = logits.size(0), classes = logits.size(1), *wanted = targets.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; i++)
      TORCH_CHECK(wanted[i] >= 0 && wanted[i] < classes, "target ", wanted[i], " of ", classes, " classes");
    const Tensor losses = at::empty({rows}, logits.options().dtype(at::kFloat)), logsums = at::empty_like(losses);
    by_type(logits, [&](auto number) {
      using T = decltype(number);
      Loss<T> loss{};
      loss.classes = classes, loss.logits = in<T>(logits), loss.targets = wanted;
      loss.losses = out_of<float>(losses), loss.logsums = out_of<float>(logsums);
      at::parallel_for(0, rows, 4, [&](int64_t first, int64_t last) { kernels<T>().loss(&loss, first, last); });
    });
    ctx->save_for_backward({logits, targets, logsums});
    return losses.sum();
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const Tensor &logits = kept[0], dlogits = at::empty_like(logits);
    by_type(logits, [&](auto number) {
      using T = decltype(number);
      Loss<T> loss{};
      loss.classes = logits.size(1), loss.logits = in<T>(logits), loss.targets = kept[1].const_data_ptr<int64_t>();
      loss.logsums = out_of<float>(kept[2]), loss.dloss = grads[0].item<float>(), loss.dlogits = out_of<T>(dlogits);
      at::parallel_for(0, logits.size(0), 4,
                       [&](int64_t first, int64_t last) { kernels<T>().loss_back(&loss, first, last); });
    });
    return {dlogits, Tensor()};
  }
};

// Rows of a table of weights [count, size] by id. Their gradients are added where the table's gradient lies: a step of few
// rows costs no pass over all of them beside the one of a decoder tied to the table.
struct Table {
  Tensor weight;
};

struct Embedding : torch::autograd::Function<Embedding> {
  // The graph does not see the weights, only an anchor without numbers that makes the rows differentiable.
  static Tensor forward(AutogradContext *ctx, const Tensor & /* anchor */, const Table &table, const Tensor &ids) {
    ctx->saved_data["weight"] = table.weight;
    ctx->save_for_backward({ids});
    return at::embedding(table.weight.detach(), ids);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    Tensor weight = ctx->saved_data["weight"].toTensor();
    const Tensor ids = ctx->get_saved_variables()[0].contiguous(), rows = grads[0].contiguous();
    if (!weight.grad().defined()) weight.mutable_grad() = at::zeros_like(weight.detach());
    const Tensor &grad = weight.mutable_grad();
    TORCH_CHECK(grad.is_contiguous() && rows.scalar_type() == at::kFloat, "gradients of a table are f32, row by row");
    const int64_t size = weight.size(1), count = ids.numel(), *wanted = ids.const_data_ptr<int64_t>();
    float *to = grad.mutable_data_ptr<float>();
    const float *from = rows.const_data_ptr<float>();
    // Each thread has a part of the table, so that the order of the sums is that of the ids.
    at::parallel_for(0, weight.size(0), 1000, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < count; i++) {
        if (wanted[i] < first || wanted[i] >= last) continue;
        for (int64_t c = 0; c < size; c++) to[wanted[i] * size + c] += from[i * size + c];
      }
    });
    return {Tensor(), Tensor(), Tensor()};
  }
};

bool is_plain_leaf(const Tensor &weight) {
  return weight.requires_grad() && weight.is_leaf() && weight.device().is_cpu() && weight.scalar_type() == at::kFloat &&
         weight.dim() == 2 && weight.is_contiguous();
}

}  // namespace

extern "C" {

char *tapt_dropout(Tensor **out, const Tensor *xs, double p) {
  return guarded([&] { *out = new Tensor(Drop::apply(*xs, p)); });
}

char *tapt_add_norm(Tensor **out, const Tensor *ys, const Tensor *xs, const Tensor *weight, const Tensor *bias, double eps,
                    double p) {
  return guarded([&] { *out = new Tensor(AddNorm::apply(*ys, *xs, *weight, *bias, eps, p)); });
}

char *tapt_cross_entropy(Tensor **out, const Tensor *logits, const Tensor *targets) {
  return guarded([&] { *out = new Tensor(CrossEntropy::apply(*logits, *targets)); });
}

char *tapt_embedding(Tensor **out, const Tensor *weight, const Tensor *ids) {
  return guarded([&] {
    const bool ours = at::GradMode::is_enabled() && is_plain_leaf(*weight) && ids->dim() == 1;
    const Tensor anchor = at::empty({0}).requires_grad_(ours);
    *out = new Tensor(ours ? Embedding::apply(anchor, Table{*weight}, *ids) : at::embedding(*weight, *ids));
  });
}
}
