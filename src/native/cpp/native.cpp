// Differentiable operations for the CPU that LibTorch lacks, and those it has that tch does not show. Every function gives
// null, or a message that the caller frees.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Numbers that dropout counts as one row.
constexpr int64_t ROW = 4096;

// Those for the instructions that LibTorch uses, which ATEN_CPU_CAPABILITY bounds.
const Set &set() {
#ifdef __x86_64__
  static const std::string uses = at::get_cpu_capability();
  if (uses == "AVX512") return tapt_kernels_avx512;
  if (uses == "AVX2") return tapt_kernels_avx2;
#endif
  return tapt_kernels_base;
}

template <class T>
const Kernels<T> &kernels();
template <>
const Kernels<float> &kernels<float>() {
  return set().whole;
}
template <>
const Kernels<Bf16> &kernels<Bf16>() {
  return set().half;
}

// Calls `work` with a number of the type that `xs` holds.
template <class Work>
auto by_type(const Tensor &xs, Work work) {
  return xs.scalar_type() == at::kFloat ? work(float{}) : work(Bf16{});
}

template <class T>
const T *in(const Tensor &xs) {
  return static_cast<const T *>(xs.const_data_ptr());
}

template <class T>
T *out_of(const Tensor &xs) {
  return static_cast<T *>(xs.mutable_data_ptr());
}

void check(const Tensor &xs) {
  const bool taken = xs.scalar_type() == at::kFloat || xs.scalar_type() == at::kBFloat16;
  TORCH_CHECK(xs.device().is_cpu() && taken, "the kernels are for f32 and bf16 on the CPU");
}

// The seed comes from the generator that all of LibTorch's dropout draws from, so that its seed is theirs.
Dropout dropout_of(double p) {
  TORCH_CHECK(p >= 0 && p <= 1, "dropout of ", p);
  if (p == 0) return {0, 0, 1};
  auto generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  const uint64_t seed = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
  return {seed, uint32_t(std::min(p * 4294967296.0, 4294967295.0)), p == 1 ? 0 : float(1 / (1 - p))};
}

void save(AutogradContext *ctx, const Dropout &dropout) {
  ctx->saved_data["seed"] = int64_t(dropout.seed);
  ctx->saved_data["below"] = int64_t(dropout.below);
  ctx->saved_data["scale"] = double(dropout.scale);
}

Dropout saved(AutogradContext *ctx) {
  const auto number = [&](const char *key) { return ctx->saved_data[key]; };
  return {uint64_t(number("seed").toInt()), uint32_t(number("below").toInt()), float(number("scale").toDouble())};
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

// Sequences end to end: where each begins.
struct Sequences {
  std::vector<int64_t> lengths, starts;

  explicit Sequences(std::vector<int64_t> of) : lengths(std::move(of)) {
    int64_t next = 0;
    for (int64_t length : lengths) {
      TORCH_CHECK(length >= 0, "a sequence of ", length, " tokens");
      starts.push_back(next), next += length;
    }
  }

  int64_t tokens() const { return lengths.empty() ? 0 : starts.back() + lengths.back(); }

  int64_t longest() const { return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()); }
};

// The heads of a batch: what each works on.
struct Heads {
  Sequences keys, queries;
  int64_t heads;
  Dropout dropout;

  // Runs `work` on each head of each sequence, of which `whole` has where the first begins. Heads are the outer loop: they
  // are alike, sequences are not.
  template <class T>
  void each(void (*work)(const Head<T> *, float *), bool back, Head<T> whole) const {
    const int64_t count = keys.lengths.size(), hidden = whole.hidden;
    whole.size = hidden / heads, whole.dropout = dropout;
    const int64_t scratch = kernels<T>().scratch(keys.longest(), whole.size, back);
    at::parallel_for(0, heads * count, 1, [&](int64_t first, int64_t last) {
      const Tensor floats = at::empty({scratch}, at::kFloat);
      for (int64_t i = first; i < last; i++) {
        const int64_t h = i / count, s = i % count;
        const int64_t skip = keys.starts[s] * hidden + h * whole.size, own = queries.starts[s] * hidden + h * whole.size;
        Head<T> head = whole;
        head.time = keys.lengths[s], head.queries = queries.lengths[s];
        head.row = h * queries.tokens() + queries.starts[s], head.logsum += head.row;
        head.q += own, head.k += skip, head.v += skip, head.out += own;
        if (back) head.dout += own, head.dq += own, head.dk += skip, head.dv += skip;
        work(&head, floats.mutable_data_ptr<float>());
      }
    });
  }

  template <class T>
  void forward(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &out, const Tensor &logsum) const {
    Head<T> head{};
    head.hidden = q.size(1);
    head.q = in<T>(q), head.k = in<T>(k), head.v = in<T>(v);
    head.out = out_of<T>(out), head.logsum = out_of<float>(logsum);
    each(kernels<T>().attend, false, head);
  }

  template <class T>
  void backward(const variable_list &kept, const Tensor &dout, const variable_list &grads) const {
    Head<T> head{};
    head.hidden = dout.size(1);
    head.q = in<T>(kept[0]), head.k = in<T>(kept[1]), head.v = in<T>(kept[2]), head.dout = in<T>(dout);
    head.out = const_cast<T *>(in<T>(kept[3])), head.logsum = const_cast<float *>(in<float>(kept[4]));
    head.dq = out_of<T>(grads[0]), head.dk = out_of<T>(grads[1]), head.dv = out_of<T>(grads[2]);
    each(kernels<T>().attend_back, true, head);
  }
};

void check_shapes(const Tensor &q, const Tensor &k, const Tensor &v, const Heads &all) {
  for (const Tensor *xs : {&q, &k, &v}) {
    check(*xs);
    TORCH_CHECK(xs->dim() == 2 && xs->size(1) == q.size(1), "q, k and v are [tokens, hidden], all three");
    TORCH_CHECK(xs->scalar_type() == q.scalar_type(), "q, k and v hold numbers of one type");
  }
  TORCH_CHECK(k.size(0) == v.size(0), "keys and values are [tokens, hidden], both");
  TORCH_CHECK(all.heads > 0 && q.size(1) % all.heads == 0, q.size(1), " columns are not for ", all.heads, " heads");
  TORCH_CHECK(all.keys.lengths.size() == all.queries.lengths.size(), "queries are not of the sequences of the keys");
  TORCH_CHECK(all.keys.tokens() == k.size(0), "lengths of ", all.keys.tokens(), " tokens, not ", k.size(0));
  TORCH_CHECK(all.queries.tokens() == q.size(0), "lengths of ", all.queries.tokens(), " queries, not ", q.size(0));
  for (size_t i = 0; i < all.keys.lengths.size(); i++)
    TORCH_CHECK(all.keys.lengths[i] > 0 || all.queries.lengths[i] == 0, "queries of a sequence without keys");
}

// Softmax attention within each sequence of a batch laid end to end: q and the result are [queries, hidden], k and v
// [tokens, hidden]. Scores are never stored: the way back computes them again (Dao et al. 2022).
struct Attend : torch::autograd::Function<Attend> {
  static Tensor forward(AutogradContext *ctx, const Tensor &q_, const Tensor &k_, const Tensor &v_,
                        std::vector<int64_t> lengths, std::vector<int64_t> queries, int64_t heads, double p) {
    const Heads all{Sequences(lengths), Sequences(queries), heads, dropout_of(p)};
    check_shapes(q_, k_, v_, all);
    const Tensor q = q_.contiguous(), k = k_.contiguous(), v = v_.contiguous();
    const Tensor out = at::empty_like(q), logsum = at::empty({heads, q.size(0)}, q.options().dtype(at::kFloat));
    by_type(q, [&](auto number) { all.forward<decltype(number)>(q, k, v, out, logsum); });
    ctx->save_for_backward({q, k, v, out, logsum});
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["queries"] = queries;
    save(ctx, all.dropout);
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const auto sequences = [&](const char *key) { return Sequences(ctx->saved_data[key].toIntVector()); };
    const Heads all{sequences("lengths"), sequences("queries"), kept[4].size(0), saved(ctx)};
    const Tensor dout = grads[0].contiguous();
    variable_list own = {at::empty_like(kept[0]), at::empty_like(kept[1]), at::empty_like(kept[2])};
    by_type(dout, [&](auto number) { all.backward<decltype(number)>(kept, dout, own); });
    own.resize(7);
    return own;
  }
};

// oneDNN's a b^T + bias, in f32 throughout; not every LibTorch has it. Its products are faster than MKL's on AMD, much so
// where MKL has no AVX-512.
const std::optional<c10::OperatorHandle> &onednn() {
  static const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  return found;
}

Tensor times_turned(const Tensor &a, const Tensor &b, const std::optional<Tensor> &bias) {
  using Scalars = c10::List<std::optional<at::Scalar>>;
  using Signature = Tensor(const Tensor &, const Tensor &, const std::optional<Tensor> &, std::string_view, Scalars,
                           std::optional<std::string_view>);
  return onednn()->typed<Signature>().call(a, b, bias, "none", Scalars(), "");
}

struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &xs, const Tensor &weight,
                        const std::optional<Tensor> &bias) {
    // What the way back asks for, as LibTorch keeps it: a frozen layer needs none of its inputs.
    ctx->save_for_backward({weight.requires_grad() ? xs : Tensor(), xs.requires_grad() ? weight : Tensor()});
    ctx->saved_data["wide"] = weight.size(0) > weight.size(1);
    ctx->saved_data["bias"] = bias.has_value();
    return times_turned(xs, weight, bias);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const Tensor &xs = kept[0], &weight = kept[1], dys = grads[0].contiguous();
    Tensor dxs, dweight, dbias;
    if (ctx->needs_input_grad(0)) dxs = times_turned(dys, weight.t(), {});
    // The wider of the two is better on the left.
    if (ctx->needs_input_grad(1))
      dweight = ctx->saved_data["wide"].toBool() ? times_turned(xs.t(), dys.t(), {}).t().contiguous() : times_turned(dys.t(), xs.t(), {});
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) dbias = dys.sum(0);
    return {dxs, dweight, dbias};
  }
};

template <typename Work>
char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("native: an unknown exception");
  }
}

}  // namespace

extern "C" {

char *tapt_linear(Tensor **out, const Tensor *xs, const Tensor *weight, const Tensor *bias) {
  return guarded([&] {
    const auto given = bias ? std::optional<Tensor>(*bias) : std::nullopt;
    *out = new Tensor(onednn() ? Linear::apply(*xs, *weight, given) : at::linear(*xs, *weight, given));
  });
}

char *tapt_dropout(Tensor **out, const Tensor *xs, double p) {
  return guarded([&] { *out = new Tensor(Drop::apply(*xs, p)); });
}

char *tapt_attention(Tensor **out, const Tensor *q, const Tensor *k, const Tensor *v, const int64_t *lengths,
                     const int64_t *queries, size_t count, int64_t heads, double p) {
  return guarded([&] {
    const std::vector<int64_t> of_keys(lengths, lengths + count), of_queries(queries, queries + count);
    *out = new Tensor(Attend::apply(*q, *k, *v, of_keys, of_queries, heads, p));
  });
}

// One parameter of the optimizer with its moments, and the rate and decay of this step.
struct TaptSlot {
  Tensor *parameter, *exp_avg, *exp_avg_sq;
  double lr, decay;
};

// Clips at `clip` if that is over 0, steps, and lets go of the gradients. `norm`: that of all gradients before clipping.
// Where it or the loss, if there is one, is not a number, nothing changes but that.
char *tapt_adamw(Tensor **norm, const TaptSlot *slots, size_t count, double beta1, double beta2, double epsilon,
                 int64_t step, double clip, const Tensor *loss) {
  return guarded([&] {
    const at::NoGradGuard guard;
    struct Group {
      std::vector<Tensor> parameters, grads, exp_avgs, exp_avg_sqs, steps;
    };
    std::map<std::pair<double, double>, Group> groups;
    std::vector<Tensor> grads;
    for (const TaptSlot *slot = slots; slot < slots + count; slot++) {
      if (!slot->parameter->grad().defined()) continue;
      // The fused kernel walks them from end to end.
      TORCH_CHECK(slot->parameter->is_contiguous(), "a parameter that is not contiguous");
      grads.push_back(slot->parameter->grad().contiguous());
      Group &group = groups[{slot->lr, slot->decay}];
      group.parameters.push_back(*slot->parameter);
      group.grads.push_back(grads.back());
      group.exp_avgs.push_back(*slot->exp_avg);
      group.exp_avg_sqs.push_back(*slot->exp_avg_sq);
    }
    if (grads.empty()) {
      *norm = new Tensor(at::full({}, 0.0, at::kFloat));
      return;
    }
    const Tensor all = at::stack(at::_foreach_norm(grads)).norm();
    const Tensor steps = at::full({}, double(step), grads[0].options().dtype(at::kFloat));
    const Tensor fine = loss ? all.isfinite().logical_and(loss->isfinite()) : all.isfinite();
    const Tensor broken = fine.logical_not().to(at::kFloat);
    std::optional<Tensor> scale;
    if (clip > 0) scale = ((all + 1e-6) / clip).clamp_min(1.0).to(at::kFloat);
    for (auto &[rates, group] : groups) {
      group.steps.assign(group.grads.size(), steps);
      at::_fused_adamw_(group.parameters, group.grads, group.exp_avgs, group.exp_avg_sqs, {}, group.steps, rates.first,
                        beta1, beta2, rates.second, epsilon, false, false, scale, broken);
    }
    for (const TaptSlot *slot = slots; slot < slots + count; slot++) slot->parameter->mutable_grad().reset();
    *norm = new Tensor(all);
  });
}
}
