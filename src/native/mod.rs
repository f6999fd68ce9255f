//! What LibTorch has and tch does not expose, behind a safe face: so far, loading CUDA at run time.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tch::Device;

/// Where to compute, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Compute {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: String,

    /// Numbers to compute in
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,

    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = crate::flags::threads)]
    pub threads: Option<usize>,
}

/// What to compute in: f32 is all there is so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// f32
    Auto,
    F32,
}

impl Compute {
    /// Sets the threads, loads CUDA where it is wanted and there, and gives the device.
    pub fn open(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads as i32);
        }
        match self.device.as_str() {
            "cpu" => Ok(Device::Cpu),
            "auto" if !has_driver() => Ok(Device::Cpu),
            "auto" => Ok(if load_cuda() && tch::Cuda::is_available() {
                Device::Cuda(0)
            } else {
                Device::Cpu
            }),
            named => cuda(cuda_number(named).unwrap_or(0)),
        }
    }
}

/// A device as it is named in a flag.
fn device(name: &str) -> Result<String, String> {
    match ["auto", "cpu"].contains(&name) || cuda_number(name).is_some() {
        true => Ok(name.to_owned()),
        false => Err("none of auto, cpu, cuda, cuda:N".into()),
    }
}

fn cuda_number(name: &str) -> Option<usize> {
    if name == "cuda" { Some(0) } else { name.strip_prefix("cuda:")?.parse().ok() }
}

fn cuda(n: usize) -> Result<Device> {
    ensure!(has_driver(), "--device cuda: no NVIDIA driver here");
    ensure!(load_cuda(), "--device cuda: libtorch_cuda.so or a library it needs is missing");
    let count = tch::Cuda::device_count();
    ensure!((n as i64) < count, "--device cuda:{n}: there are {count} devices");
    Ok(Device::Cuda(n))
}

fn has_driver() -> bool {
    Path::new("/dev/nvidiactl").exists() || Path::new("/proc/driver/nvidia/version").exists()
}

/// The programs link the CPU library alone, so that they run where CUDA is not installed; opening the other one
/// registers its kernels.
fn load_cuda() -> bool {
    let Ok(name) = CString::new("libtorch_cuda.so") else { return false };
    // SAFETY: the library is LibTorch's own; its initialisers only register kernels.
    !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null()
}
