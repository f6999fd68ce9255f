// What LibTorch has that tch does not show: oneDNN's products in f32, what a GPU held of tensors.
#include "face.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <optional>

namespace {

// oneDNN's a b^T + bias, in f32 throughout; not every LibTorch has it. Its products are faster than MKL's on AMD, much so
// where MKL has no AVX-512; on Intel with AVX-512 MKL's are faster (docs/performance.md).
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

bool mkl_is_quicker() {
#ifdef __x86_64__
  static const bool intel = __builtin_cpu_is("intel") && at::get_cpu_capability() == "AVX512";
  return intel && at::hasMKL();
#else
  return false;
#endif
}

// The gradient [out, in] of a weight, from that of the output [rows, out] and the input [rows, in].
Tensor weight_gradient(const Tensor &dys, const Tensor &xs) {
  // The wider of the two is better on the left.
  const bool wide = dys.size(1) > xs.size(1);
  return wide ? times_turned(xs.t(), dys.t(), {}).t().contiguous() : times_turned(dys.t(), xs.t(), {});
}

struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &xs, const Tensor &weight,
                        const std::optional<Tensor> &bias) {
    // What the way back asks for, as LibTorch keeps it: a frozen layer needs none of its inputs.
    ctx->save_for_backward({weight.requires_grad() ? xs : Tensor(), xs.requires_grad() ? weight : Tensor()});
    ctx->saved_data["bias"] = bias.has_value();
    return times_turned(xs, weight, bias);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const Tensor &xs = kept[0], &weight = kept[1], dys = grads[0].contiguous();
    Tensor dxs, dweight, dbias;
    if (ctx->needs_input_grad(0)) dxs = times_turned(dys, weight.t(), {});
    if (ctx->needs_input_grad(1)) dweight = weight_gradient(dys, xs);
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) dbias = dys.sum(0);
    return {dxs, dweight, dbias};
  }
};

}  // namespace

extern "C" {

char *tapt_linear(Tensor **out, const Tensor *xs, const Tensor *weight, const Tensor *bias) {
  return guarded([&] {
    const auto given = bias ? std::optional<Tensor>(*bias) : std::nullopt;
    const bool ours = onednn() && !mkl_is_quicker();
    *out = new Tensor(ours ? Linear::apply(*xs, *weight, given) : at::linear(*xs, *weight, given));
  });
}

// The most bytes of tensors that a GPU held at once: torch.cuda.max_memory_allocated.
char *tapt_max_memory_allocated(int64_t *bytes, int8_t device) {
  return guarded([&] {
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(device).allocated_bytes[all].peak;
  });
}
}
