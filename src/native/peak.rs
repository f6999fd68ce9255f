//! How much memory was held at most.

use std::ffi::{c_char, c_void};
use std::fs;

use tch::Device;

unsafe extern "C" {
    fn tapt_max_memory_allocated(bytes: *mut i64, device: i8) -> *mut c_char;
}

/// The largest resident set of this process so far, in bytes; nothing where the system does not tell. Not `getrusage`'s,
/// which a process inherits from the one that started it.
pub fn max_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The most that tensors on a GPU took at once so far, in bytes, as `torch.cuda.max_memory_allocated` has it; nothing of
/// another device.
pub fn max_memory_allocated(device: Device) -> Option<u64> {
    let Device::Cuda(n) = device else { return None };
    let mut bytes = 0;
    // SAFETY: the function writes the number, or gives a message that is ours to free.
    let failed = unsafe {
        let message = tapt_max_memory_allocated(&mut bytes, i8::try_from(n).ok()?);
        libc::free(message.cast::<c_void>());
        !message.is_null()
    };
    u64::try_from(bytes).ok().filter(|_| !failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_counts() {
        let before = max_rss().unwrap();
        drop(std::hint::black_box(vec![1u8; 64 << 20]));
        assert!(max_rss().unwrap() >= before.max(64 << 20));
    }

    /// Without CUDA there is no allocator of it.
    #[test]
    fn a_device_that_is_not_there_holds_nothing() {
        assert_eq!(max_memory_allocated(Device::Cpu), None);
        assert!(tch::Cuda::is_available() || max_memory_allocated(Device::Cuda(0)).is_none());
    }
}
