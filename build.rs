//! Tells the programs where LibTorch lies, so that they start without `LD_LIBRARY_PATH`, and compiles `native`.

#![allow(clippy::disallowed_methods)]

use std::env;
use std::path::{Path, PathBuf};

const SOURCES: &str = "src/native/cpp";

/// Operations for LibTorch that call the kernels.
const FACES: [&str; 5] = ["native", "attend", "by_row", "adamw", "recompute"];

/// The kernels are compiled once for each of these and chosen at run time.
const SETS: [(&str, &[&str]); 3] = [
    ("base", &[]),
    ("avx2", &["-mavx2", "-mfma"]),
    ("avx512", &["-march=skylake-avx512", "-mprefer-vector-width=512"]),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCES}");
    if let Some(dir) = env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let dir = PathBuf::from(dir);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
        native(&dir);
    }
}

fn native(libraries: &Path) {
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    for (name, flags) in SETS.iter().filter(|(name, _)| x86 || *name == "base") {
        let mut build = compiler();
        for (table, file) in [("ATTENTION", "attention"), ("ROWS", "rows")] {
            build.define(&format!("TAPT_{table}"), format!("tapt_{file}_{name}").as_str());
            build.file(format!("{SOURCES}/{file}.cpp"));
        }
        // Roots are taken of sixteen numbers at once only where none of them may set `errno`.
        build
            .flag("-fno-math-errno")
            .flag("-Wno-psabi")
            .flags(*flags)
            .compile(&format!("tapt_kernels_{name}"));
    }
    let headers = headers(libraries);
    compiler()
        .flag(format!("-isystem{}", headers.join("torch/csrc/api/include").display()))
        .flag(format!("-isystem{}", headers.display()))
        .flag_if_supported("-fopenmp")
        .define("NDEBUG", None)
        .files(FACES.map(|file| format!("{SOURCES}/{file}.cpp")))
        .compile("tapt_native");
}

/// Where torch-sys finds them, too.
fn headers(libraries: &Path) -> PathBuf {
    let named = ["LIBTORCH_INCLUDE", "LIBTORCH"].iter().find_map(|name| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    });
    named.unwrap_or_else(|| libraries.join("..")).join("include")
}

fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3);
    build
}
