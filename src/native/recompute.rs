//! Layers that are computed again on the way back, and what carries their closures to `cpp` and back.

use std::ffi::{c_char, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Tensor;
use torch_sys::C_tensor;

use super::ops::made;

type Closure = Box<dyn Fn(&Tensor) -> Tensor>;

unsafe extern "C" {
    fn tapt_recomputed(
        out: *mut *mut C_tensor,
        xs: *const C_tensor,
        closure: *mut c_void,
        call: unsafe extern "C" fn(*mut c_void, *const C_tensor) -> *mut C_tensor,
        release: unsafe extern "C" fn(*mut c_void),
    ) -> *mut c_char;
}

/// `layer(xs)`, of which `xs` alone is kept: on the way back the layer is called again, with the same draws of dropout
/// (activation checkpointing, Chen et al. 2016). There is one way back, not two.
pub fn recomputed(xs: &Tensor, layer: impl Fn(&Tensor) -> Tensor + 'static) -> Tensor {
    let closure: Box<Closure> = Box::new(Box::new(layer));
    let closure = Box::into_raw(closure).cast();
    // SAFETY: a live tensor; `closure` is what `call` and `release` take it for, and is released once.
    made(|out| unsafe { tapt_recomputed(out, xs.as_ptr(), closure, call, release) })
}

/// What the closure makes of a tensor; null where it panics, which must not unwind through C++.
///
/// On a GPU's way back another thread calls this, while the one that asked for it waits: nothing that the closure shares is
/// used by two at once.
unsafe extern "C" fn call(closure: *mut c_void, xs: *const C_tensor) -> *mut C_tensor {
    // SAFETY: `recomputed` made the closure, and nothing changes it; the tensor lives as long as this call.
    let layer = unsafe { &*closure.cast::<Closure>() };
    let xs = unsafe { Tensor::clone_from_ptr(xs.cast_mut()) };
    let made = catch_unwind(AssertUnwindSafe(|| layer(&xs)));
    // The caller's from here on.
    made.map_or(null_mut(), |ys| ManuallyDrop::new(ys).as_mut_ptr())
}

unsafe extern "C" fn release(closure: *mut c_void) {
    // SAFETY: `recomputed` made it so, and this is called once.
    drop(unsafe { Box::from_raw(closure.cast::<Closure>()) });
}
