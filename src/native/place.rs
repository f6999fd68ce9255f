//! Where to compute, and in which numbers.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tch::{Device, Kind};

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

/// What to compute in. Weights, gradients and moments are f32 either way; so are embeddings and losses, and the sums inside
/// products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bf16 where the processor multiplies it, else f32
    Auto,
    F32,
    Bf16,
}

/// Where to compute, and in which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub device: Device,
    pub kind: Kind,
}

impl Place {
    /// Its numbers, as `--dtype` names them.
    pub fn dtype(self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "f32" }
    }
}

/// In f32.
impl From<Device> for Place {
    fn from(device: Device) -> Self {
        Self { device, kind: Kind::Float }
    }
}

impl Compute {
    /// Sets the threads, loads CUDA where it is wanted and there, and gives the place.
    pub fn open(&self) -> Result<Place> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads as i32);
        }
        let device = self.device()?;
        let half = match self.dtype {
            Dtype::Auto => multiplies_bf16(device),
            Dtype::F32 => false,
            Dtype::Bf16 => true,
        };
        Ok(Place { device, kind: if half { Kind::BFloat16 } else { Kind::Float } })
    }

    fn device(&self) -> Result<Device> {
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

/// Whether the processor has instructions that multiply bf16: without them it is slower than f32.
fn multiplies_bf16(device: Device) -> bool {
    match device {
        Device::Cpu => cpu_multiplies_bf16(),
        // The first generation that does is 8.0, Ampere.
        Device::Cuda(n) => cuda_generation(n).is_some_and(|major| major >= 8),
        _ => false,
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_multiplies_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn cpu_multiplies_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_multiplies_bf16() -> bool {
    false
}

/// The major number of a GPU's compute capability, as its driver gives it.
fn cuda_generation(device: usize) -> Option<i32> {
    type Attribute = unsafe extern "C" fn(*mut i32, i32, i32) -> i32;
    /// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    const MAJOR: i32 = 75;
    let mut major = 0;
    // SAFETY: the driver's library stays open, LibTorch has initialised it, and the function is of this type.
    let status = unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(library, c"cuDeviceGetAttribute".as_ptr());
        let function: Option<Attribute> = std::mem::transmute(function);
        function?(&mut major, MAJOR, i32::try_from(device).ok()?)
    };
    (status == 0).then_some(major)
}
