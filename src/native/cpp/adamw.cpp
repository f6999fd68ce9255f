// One step of AdamW over all that trains.
#include "face.h"

#include <ATen/ops/_fused_adamw.h>

#include <cmath>
#include <map>
#include <optional>

// One parameter of the optimizer with its moments, and the rate and decay of this step. `copy`: the same weights in bf16,
// where they are computed with in that, else null.
struct TaptSlot {
  const Tensor *parameter, *exp_avg, *exp_avg_sq, *copy;
  double lr, decay;
};

// What is the same for all of them; the longest gradient is `clip`, of any length if that is 0.
struct TaptRates {
  double beta1, beta2, epsilon, clip;
  int64_t step;
};

namespace {

// Numbers of a parameter that one thread takes at a time: however many threads, the sums are the same.
constexpr int64_t PART = 1 << 16;

const Rows<Bf16> &kernels() { return of_type<Bf16>(fitting(tapt_rows_base, tapt_rows_avx2, tapt_rows_avx512)); }

// Gradients that a parameter has: its own and that of its copy. Either may be undefined.
struct Grads {
  Tensor own, copy;

  explicit Grads(const TaptSlot &slot) : own(slot.parameter->grad()), copy(slot.copy ? slot.copy->grad() : Tensor()) {
    // The kernels walk them from end to end.
    if (own.defined()) own = own.contiguous();
    if (copy.defined()) copy = copy.contiguous();
  }

  bool any() const { return own.defined() || copy.defined(); }
};

void let_go(const TaptSlot &slot) {
  slot.parameter->mutable_grad().reset();
  if (slot.copy) slot.copy->mutable_grad().reset();
}

// On the CPU, in kernels of our own: gradients are read, and copies written, as they are.
class Step {
 public:
  Step(const TaptSlot *slots, size_t count) {
    for (const TaptSlot *slot = slots; slot < slots + count; slot++) {
      Grads grads(*slot);
      if (!grads.any()) continue;
      const size_t here = weights.size();
      weights.push_back(weights_of(*slot, grads)), taken.push_back(slot), kept.push_back(std::move(grads));
      for (int64_t from = 0, all = slot->parameter->numel(); from < all; from += PART)
        parts.push_back({here, from, std::min(from + PART, all)});
    }
  }

  // Of all gradients.
  double norm() const {
    std::vector<double> squares(parts.size());
    each([&](size_t i) { squares[i] = kernels().squares(&weights[parts[i].slot], parts[i].first, parts[i].last); });
    double all = 0;
    for (double square : squares) all += square;
    return std::sqrt(all);
  }

  void take(const TaptRates &rates, double scale) const {
    const double first = 1 - std::pow(rates.beta1, double(rates.step)), second = 1 - std::pow(rates.beta2, double(rates.step));
    each([&](size_t i) {
      const TaptSlot &slot = *taken[parts[i].slot];
      const AdamW adamw = {float(scale),       float(1 - slot.lr * slot.decay), float(1 - rates.beta1), float(rates.beta2),
                           float(1 - rates.beta2), float(1 / std::sqrt(second)), float(rates.epsilon), float(slot.lr / first)};
      kernels().adamw(&weights[parts[i].slot], &adamw, parts[i].first, parts[i].last);
    });
  }

 private:
  struct Part {
    size_t slot;
    int64_t first, last;
  };
  std::vector<Weights<Bf16>> weights;
  std::vector<const TaptSlot *> taken;
  std::vector<Grads> kept;
  std::vector<Part> parts;

  template <class Work>
  void each(Work work) const {
    at::parallel_for(0, int64_t(parts.size()), 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i++) work(size_t(i));
    });
  }

  static Weights<Bf16> weights_of(const TaptSlot &slot, const Grads &grads) {
    for (const Tensor *own : {slot.parameter, slot.exp_avg, slot.exp_avg_sq})
      TORCH_CHECK(own->scalar_type() == at::kFloat && own->is_contiguous(), "parameters and moments are f32, end to end");
    TORCH_CHECK(!slot.copy || slot.copy->is_contiguous(), "a copy that is not contiguous");
    Weights<Bf16> all{};
    all.weight = out_of<float>(*slot.parameter);
    all.exp_avg = out_of<float>(*slot.exp_avg), all.exp_avg_sq = out_of<float>(*slot.exp_avg_sq);
    if (grads.own.defined()) all.grad = in<float>(grads.own);
    if (slot.copy) all.copy = out_of<Bf16>(*slot.copy);
    if (grads.copy.defined()) all.copy_grad = in<Bf16>(grads.copy);
    return all;
  }
};

Tensor step_here(const TaptSlot *slots, size_t count, const TaptRates &rates, const Tensor *loss) {
  const Step step(slots, count);
  const double norm = step.norm();
  const bool fine = std::isfinite(norm) && (!loss || std::isfinite(loss->item<double>()));
  const double scale = rates.clip > 0 ? std::min(1.0, rates.clip / (norm + 1e-6)) : 1.0;
  if (fine) step.take(rates, scale);
  return at::full({}, norm, at::kFloat);
}

// On other devices, in LibTorch's.
Tensor step_there(const TaptSlot *slots, size_t count, const TaptRates &rates, const Tensor *loss) {
  struct Group {
    std::vector<Tensor> parameters, grads, exp_avgs, exp_avg_sqs, steps;
  };
  std::map<std::pair<double, double>, Group> groups;
  std::vector<Tensor> grads;
  for (const TaptSlot *slot = slots; slot < slots + count; slot++) {
    const Tensor grad = slot->parameter->grad();
    if (!grad.defined()) continue;
    // The fused kernel walks them from end to end.
    TORCH_CHECK(slot->parameter->is_contiguous(), "a parameter that is not contiguous");
    grads.push_back(grad.contiguous());
    Group &group = groups[{slot->lr, slot->decay}];
    group.parameters.push_back(*slot->parameter);
    group.grads.push_back(grads.back());
    group.exp_avgs.push_back(*slot->exp_avg);
    group.exp_avg_sqs.push_back(*slot->exp_avg_sq);
  }
  if (grads.empty()) return at::full({}, 0.0, at::kFloat);
  const Tensor all = at::stack(at::_foreach_norm(grads)).norm();
  const Tensor steps = at::full({}, double(rates.step), grads[0].options().dtype(at::kFloat));
  const Tensor fine = loss ? all.isfinite().logical_and(loss->isfinite()) : all.isfinite();
  const Tensor broken = fine.logical_not().to(at::kFloat);
  std::optional<Tensor> scale;
  if (rates.clip > 0) scale = ((all + 1e-6) / rates.clip).clamp_min(1.0).to(at::kFloat);
  for (auto &[own, group] : groups) {
    group.steps.assign(group.grads.size(), steps);
    at::_fused_adamw_(group.parameters, group.grads, group.exp_avgs, group.exp_avg_sqs, {}, group.steps, own.first,
                      rates.beta1, rates.beta2, own.second, rates.epsilon, false, false, scale, broken);
  }
  return all;
}

}  // namespace

extern "C" {

// Clips, steps, and lets go of the gradients. `norm`: that of all gradients before clipping. Where it or the loss, if there
// is one, is not a number, nothing changes but that.
char *tapt_adamw(Tensor **norm, const TaptSlot *slots, size_t count, const TaptRates *rates, const Tensor *loss) {
  return guarded([&] {
    const at::NoGradGuard guard;
    const bool here = count == 0 || slots->parameter->is_cpu();
    *norm = new Tensor(here ? step_here(slots, count, *rates, loss) : step_there(slots, count, *rates, loss));
    for (const TaptSlot *slot = slots; slot < slots + count; slot++) let_go(*slot);
  });
}

// Adds the gradient of a copy to that of the parameter: sums of many are not for bf16.
char *tapt_fold(const Tensor *parameter, const Tensor *copy) {
  return guarded([&] {
    const at::NoGradGuard guard;
    Tensor &to = parameter->mutable_grad(), &from = copy->mutable_grad();
    if (!from.defined()) return;
    if (to.defined())
      to.add_(from);
    else
      to = from.to(at::kFloat);
    from.reset();
  });
}
}
