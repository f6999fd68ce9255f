//! The face of the operations in `cpp`.

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

/// A parameter for the optimizer, its moments, and the rate and decay of a step.
#[derive(Debug)]
pub struct Slot<'a> {
    pub parameter: &'a Tensor,
    pub exp_avg: &'a Tensor,
    pub exp_avg_sq: &'a Tensor,
    /// The same weights in bf16, where they are computed with in that.
    pub copy: Option<&'a Tensor>,
    pub lr: f64,
    pub decay: f64,
}

#[repr(C)]
struct RawSlot {
    tensors: [*const C_tensor; 4],
    lr: f64,
    decay: f64,
}

/// What is the same for all parameters in a step of AdamW.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Rates {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Longest gradient; 0 never clips.
    pub clip: f64,
    /// Counted from 1.
    pub step: i64,
}

unsafe extern "C" {
    fn tapt_linear(
        out: *mut *mut C_tensor,
        xs: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> *mut c_char;

    fn tapt_dropout(out: *mut *mut C_tensor, xs: *const C_tensor, p: f64) -> *mut c_char;

    fn tapt_add_norm(
        out: *mut *mut C_tensor,
        ys: *const C_tensor,
        xs: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        eps: f64,
        p: f64,
    ) -> *mut c_char;

    fn tapt_cross_entropy(
        out: *mut *mut C_tensor,
        logits: *const C_tensor,
        targets: *const C_tensor,
    ) -> *mut c_char;

    fn tapt_embedding(
        out: *mut *mut C_tensor,
        weight: *const C_tensor,
        ids: *const C_tensor,
    ) -> *mut c_char;

    fn tapt_attention(
        out: *mut *mut C_tensor,
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        lengths: *const i64,
        queries: *const i64,
        count: usize,
        heads: i64,
        p: f64,
    ) -> *mut c_char;

    fn tapt_adamw(
        norm: *mut *mut C_tensor,
        slots: *const RawSlot,
        count: usize,
        rates: *const Rates,
        loss: *const C_tensor,
    ) -> *mut c_char;

    fn tapt_fold(parameter: *const C_tensor, copy: *const C_tensor) -> *mut c_char;
}

/// Whether the kernels here are for such a tensor: f32 and bf16 on the CPU.
pub fn takes(xs: &Tensor) -> bool {
    xs.device() == Device::Cpu && matches!(xs.kind(), Kind::Float | Kind::BFloat16)
}

/// Multiplications from which a product is worth oneDNN, which compiles code for each new shape.
const LARGE: i64 = 1 << 26;

/// `xs Wᵀ + b` for `xs` `[tokens, in]`, `weight` `[out, in]`, `bias` `[out]`, computed in the numbers of `xs`.
/// Differentiable.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let weight = weight.to_kind(xs.kind());
    let bias = bias.map(|bias| bias.to_kind(xs.kind()));
    let large = || xs.size()[0] * weight.size().iter().product::<i64>() >= LARGE;
    let ours = xs.device() == Device::Cpu && xs.kind() == Kind::Float;
    if !ours || xs.dim() != 2 || weight.dim() != 2 || !large() {
        return xs.linear(&weight, bias.as_ref());
    }
    let bias = pointer(bias.as_ref());
    // SAFETY: live tensors, or null for no bias; `made` checks what comes back.
    made(|out| unsafe { tapt_linear(out, xs.as_ptr(), weight.as_ptr(), bias) })
}

/// `xs` with each number zeroed with probability `p` and the others scaled up to make up for it. Differentiable; keeps a
/// seed drawn from LibTorch's generator, and no mask. Panics on tensors that are not for it ([`takes`]).
pub fn dropout(xs: &Tensor, p: f64) -> Tensor {
    // SAFETY: a live tensor; `made` checks what comes back.
    made(|out| unsafe { tapt_dropout(out, xs.as_ptr(), p) })
}

/// LayerNorm of `xs` and what dropout `p` leaves of `ys`, both `[rows, hidden]`, with the f32 `weight` and `bias` `[hidden]`.
/// Differentiable. Panics on tensors that are not for it ([`takes`]).
pub fn add_norm([ys, xs]: [&Tensor; 2], [weight, bias]: [&Tensor; 2], eps: f64, p: f64) -> Tensor {
    let [ys, xs, weight, bias] = [ys, xs, weight, bias].map(Tensor::as_ptr);
    // SAFETY: live tensors, whose shapes are checked there; `made` checks what comes back.
    made(|out| unsafe { tapt_add_norm(out, ys, xs, weight, bias, eps, p) })
}

/// The cross-entropy of `logits` `[rows, classes]` to the classes `targets` `[rows]`, added up: an f32, in nats.
/// Differentiable; shares of the classes are never stored. Panics on tensors that are not for it ([`takes`]).
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    // SAFETY: live tensors, whose shapes and targets are checked there; `made` checks what comes back.
    made(|out| unsafe { tapt_cross_entropy(out, logits.as_ptr(), targets.as_ptr()) })
}

/// Rows of `weight` `[count, size]` by `ids` `[rows]`. The gradient of a parameter on the CPU is added up where it lies,
/// and not given to who asks for it otherwise.
pub fn embedding(weight: &Tensor, ids: &Tensor) -> Tensor {
    // SAFETY: live tensors; `made` checks what comes back.
    made(|out| unsafe { tapt_embedding(out, weight.as_ptr(), ids.as_ptr()) })
}

/// Attention within each of the sequences of these lengths that lie end to end in `k` and `v` `[tokens, hidden]`, with
/// dropout `p` of its weights. `q` `[queries, hidden]` has so many queries of each sequence as `queries` says.
/// Differentiable. Panics on tensors that are not for it ([`takes`]).
pub fn attention(
    [q, k, v]: [&Tensor; 3],
    [lengths, queries]: [&[i64]; 2],
    heads: i64,
    p: f64,
) -> Tensor {
    assert_eq!(lengths.len(), queries.len(), "queries of other sequences than the keys");
    let [q, k, v] = [q, k, v].map(Tensor::as_ptr);
    let (keys, queries, count) = (lengths.as_ptr(), queries.as_ptr(), lengths.len());
    // SAFETY: live tensors and as many lengths as are said; shapes are checked there.
    made(|out| unsafe { tapt_attention(out, q, k, v, keys, queries, count, heads, p) })
}

/// One step of AdamW with the gradients there are, which are let go. Gives their norm before clipping, on the device. Where
/// that or the loss is not a number, no parameter changes.
pub fn adamw<'a>(
    slots: impl Iterator<Item = Slot<'a>>,
    rates: Rates,
    loss: Option<&Tensor>,
) -> Tensor {
    let raw = |Slot { parameter, exp_avg, exp_avg_sq, copy, lr, decay }: Slot| {
        let [parameter, exp_avg, exp_avg_sq] = [parameter, exp_avg, exp_avg_sq].map(Tensor::as_ptr);
        RawSlot { tensors: [parameter, exp_avg, exp_avg_sq, pointer(copy)], lr, decay }
    };
    let slots: Vec<RawSlot> = slots.map(raw).collect();
    // SAFETY: the tensors outlive the call, which changes what they hold as tch's own in-place operations do.
    made(|out| unsafe { tapt_adamw(out, slots.as_ptr(), slots.len(), &rates, pointer(loss)) })
}

/// Adds the gradient of a bf16 `copy` to that of `parameter`, and lets it go: sums of many are not for bf16.
pub fn fold(parameter: &Tensor, copy: &Tensor) {
    // SAFETY: live tensors, whose gradients change as in a backward pass.
    went(unsafe { tapt_fold(parameter.as_ptr(), copy.as_ptr()) });
}

/// The tensor, or null for none.
fn pointer(of: Option<&Tensor>) -> *const C_tensor {
    of.map_or(null(), Tensor::as_ptr)
}

/// Panics with the message of a call of `cpp`, as tch's operations do, if it has one.
fn went(message: *mut c_char) {
    if !message.is_null() {
        // SAFETY: a string of strdup, read before it is freed, once.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
        unsafe { libc::free(message.cast()) };
        panic!("{text}");
    }
}

/// What a call of `cpp` made.
pub(super) fn made(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Tensor {
    let mut out = null_mut();
    went(call(&mut out));
    assert!(!out.is_null(), "native: out of memory");
    // SAFETY: there is a tensor, which is ours.
    unsafe { Tensor::from_ptr(out) }
}
