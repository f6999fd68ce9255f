// What the operations here share. Every function that Rust calls gives null, or a message that the caller frees.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The table for the instructions that LibTorch uses, which ATEN_CPU_CAPABILITY bounds.
template <template <class> class Kernels>
const Both<Kernels> &fitting(const Both<Kernels> &base, [[maybe_unused]] const Both<Kernels> &avx2,
                             [[maybe_unused]] const Both<Kernels> &avx512) {
#ifdef __x86_64__
  static const std::string uses = at::get_cpu_capability();
  if (uses == "AVX512") return avx512;
  if (uses == "AVX2") return avx2;
#endif
  return base;
}

// The kernels of a table for numbers of one type.
template <class T, template <class> class Kernels>
const Kernels<T> &of_type(const Both<Kernels> &all) {
  if constexpr (std::is_same_v<T, float>)
    return all.whole;
  else
    return all.half;
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

inline void check(const Tensor &xs) {
  const bool taken = xs.scalar_type() == at::kFloat || xs.scalar_type() == at::kBFloat16;
  TORCH_CHECK(xs.device().is_cpu() && taken, "the kernels are for f32 and bf16 on the CPU");
}

// The seed comes from the generator that all of LibTorch's dropout draws from, so that its seed is theirs.
inline Dropout dropout_of(double p) {
  TORCH_CHECK(p >= 0 && p <= 1, "dropout of ", p);
  if (p == 0) return {0, 0, 1};
  auto generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  const uint64_t seed = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
  return {seed, uint32_t(std::min(p * 4294967296.0, 4294967295.0)), p == 1 ? 0 : float(1 / (1 - p))};
}

inline void save(AutogradContext *ctx, const Dropout &dropout) {
  ctx->saved_data["seed"] = int64_t(dropout.seed);
  ctx->saved_data["below"] = int64_t(dropout.below);
  ctx->saved_data["scale"] = double(dropout.scale);
}

inline Dropout saved(AutogradContext *ctx) {
  const auto number = [&](const char *key) { return ctx->saved_data[key]; };
  return {uint64_t(number("seed").toInt()), uint32_t(number("below").toInt()), float(number("scale").toDouble())};
}

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
