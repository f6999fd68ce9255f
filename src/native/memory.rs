//! The allocator of LibTorch within the programs: jemalloc, told to keep what is freed.
//!
//! The sizes of a step's tensors differ from batch to batch. The C library's allocator gives large ones back to the system,
//! which clears their pages anew for the next step, or where it is told to keep them it grows with the number of steps:
//! others lie between them. `MALLOC_CONF` in the environment overrules what is said here.

use std::ffi::{c_char, c_void};

/// Named, so that the linker takes jemalloc's functions before the C library's.
#[used]
static MALLOC: unsafe extern "C" fn(usize) -> *mut c_void = tikv_jemalloc_sys::malloc;

/// A string for C.
#[repr(transparent)]
pub struct Text(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Text {}

/// What jemalloc reads when it starts: nothing goes back to the system, and large blocks are as others.
#[unsafe(no_mangle)]
#[used]
pub static malloc_conf: Text =
    Text(c"oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1".as_ptr());
