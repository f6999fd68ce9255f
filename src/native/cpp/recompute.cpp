// Activation checkpointing: a layer of which the input is kept alone, and whose rest is computed again on the way back
// (Chen et al. 2016). As torch.utils.checkpoint with use_reentrant, but that inputs need not ask for a gradient.
#include "face.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/custom_class.h>

namespace {

// A closure of Rust: `call` gives a new tensor, or null where it panicked, which was told.
struct Layer : torch::CustomClassHolder {
  void *closure;
  Tensor *(*call)(void *, const Tensor *);
  void (*release)(void *);

  Layer(void *closure, decltype(call) call, decltype(release) release)
      : closure(closure), call(call), release(release) {}
  ~Layer() override { release(closure); }

  Tensor operator()(const Tensor &xs) const {
    const std::unique_ptr<Tensor> ys(call(closure, &xs));
    TORCH_CHECK(ys, "a layer failed, as was said");
    return *ys;
  }
};

// The generator that dropout draws from where `xs` lies.
at::Generator generator_of(const Tensor &xs) { return at::globalContext().defaultGenerator(xs.device()); }

Tensor state_of(at::Generator generator) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void go_to(at::Generator generator, const Tensor &state) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

struct Recomputed : torch::autograd::Function<Recomputed> {
  // `anchor` asks for a gradient where `xs` does not, but weights of the layer do.
  static Tensor forward(AutogradContext *ctx, const Tensor &xs, const Tensor & /* anchor */, const Tensor &ys,
                        const Tensor &state, c10::intrusive_ptr<Layer> layer) {
    ctx->save_for_backward({xs});
    ctx->saved_data["state"] = state;
    ctx->saved_data["layer"] = c10::IValue::make_capsule(std::move(layer));
    return ys.alias();
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor kept = ctx->get_saved_variables()[0];
    // Taken out, so that it goes while who asked for the way back waits: it may not be of this thread.
    const auto layer = c10::static_intrusive_pointer_cast<Layer>(ctx->saved_data["layer"].toCapsule());
    ctx->saved_data.erase("layer");
    const at::Generator generator = generator_of(kept);
    const Tensor now = state_of(generator), xs = kept.detach().set_requires_grad(kept.requires_grad());
    go_to(generator, ctx->saved_data["state"].toTensor());
    Tensor ys;
    {
      const at::AutoGradMode records(true);
      ys = (*layer)(xs);
    }
    go_to(generator, now);
    torch::autograd::backward({ys}, {grads[0]});
    return {xs.grad(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" char *tapt_recomputed(Tensor **out, const Tensor *xs, void *closure, decltype(Layer::call) call,
                                 decltype(Layer::release) release) {
  return guarded([&] {
    auto layer = c10::make_intrusive<Layer>(closure, call, release);
    const Tensor state = state_of(generator_of(*xs));
    Tensor ys = (*layer)(*xs);
    // Where nothing trains there is no way back.
    if (ys.requires_grad()) {
      // Without what it was made of.
      ys = ys.detach();
      const Tensor anchor = at::empty({0}, xs->options().dtype(at::kFloat)).set_requires_grad(true);
      ys = Recomputed::apply(*xs, anchor, ys, state, std::move(layer));
    }
    *out = new Tensor(ys);
  });
}
