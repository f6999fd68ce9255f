//! How much memory is free where a model is computed.

use std::fs;
use std::path::{Path, PathBuf};

use sysinfo::System;
use tch::Device;

/// Where the kernel shows control groups, and the files of a group's limit, of what it holds, and in `memory.stat` of how much
/// of that is files it could let go: of version 2, and of version 1.
const GROUPS: [(&str, &str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
];

/// Bytes that are free for this process now, of the machine and of the control groups it is in, or of the GPU; nothing
/// where that is not known.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => of_machine(),
        Device::Cuda(_) => of_gpu(),
        _ => None,
    }
}

fn of_machine() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let all = (system.total_memory() > 0).then(|| system.available_memory());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    all.into_iter().chain(of_groups(&groups)).min()
}

/// Of each group that has a limit: those a process is in, by its `/proc/self/cgroup`, and those around them.
fn of_groups(groups: &str) -> impl Iterator<Item = u64> {
    groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let of_memory = controllers.split(',').any(|name| name == "memory");
        let kind = &GROUPS[usize::from(!controllers.is_empty())];
        let inner = Path::new(path.trim_start_matches('/')).to_owned();
        let around: Vec<PathBuf> = inner.ancestors().map(Path::to_owned).collect();
        let asked = controllers.is_empty() || of_memory;
        around.into_iter().filter(move |_| asked).filter_map(|group| of_group(kind, &group))
    })
}

fn of_group((root, limit, usage, files): &(&str, &str, &str, &str), group: &Path) -> Option<u64> {
    let text = |name: &str| fs::read_to_string(Path::new(root).join(group).join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let stat = text("memory.stat").unwrap_or_default();
    let kept = stat.lines().find_map(|line| line.strip_prefix(files)?.trim().parse().ok());
    let used = number(usage)?.saturating_sub(kept.unwrap_or(0));
    Some(number(limit)?.saturating_sub(used))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_free() {
        assert!(free_memory(Device::Cpu).is_some_and(|free| free > 1 << 20));
    }

    #[test]
    fn lines_that_name_no_group_with_a_limit_bound_nothing() {
        assert_eq!(of_groups("5:cpu:/none\n0::/no/such/group/at/all\nodd\n").count(), 0);
    }
}
