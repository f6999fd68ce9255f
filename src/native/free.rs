//! How much memory is free where a model is computed.

use sysinfo::System;
use tch::Device;

/// Bytes that are free for this process now, of the machine and of the control group it runs in, or of the GPU; nothing
/// where that is not known.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => Some(of_machine()).filter(|&free| free > 0),
        Device::Cuda(_) => of_gpu(),
        _ => None,
    }
}

fn of_machine() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    system.available_memory().min(group)
}

/// Of the GPU that LibTorch uses now, as its driver says.
fn of_gpu() -> Option<u64> {
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let (mut free, mut all) = (0, 0);
    // SAFETY: the driver's library stays open, LibTorch has initialised it, and the function is of this type.
    let status = unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(library, c"cuMemGetInfo_v2".as_ptr());
        let function: Option<MemGetInfo> = std::mem::transmute(function);
        function?(&mut free, &mut all)
    };
    (status == 0).then_some(free as u64)
}
