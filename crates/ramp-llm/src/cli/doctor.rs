//! `ramp doctor`.

#[cfg(feature = "cuda")]
mod thorough;

use super::{
    device::DeviceArg,
    failure::{Failure, Result},
    output,
    table::{Align, Table},
};

/// Arguments of `ramp doctor`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare what each GPU computes with the CPU, and measure two speeds.
    #[arg(long)]
    thorough: bool,
}

/// One thing that was looked at.
struct Check {
    what: String,
    /// What was found, or why it cannot be used.
    found: std::result::Result<String, String>,
    /// What to do when it cannot.
    remedy: &'static str,
}

/// Runs the command.
///
/// # Errors
/// When something is missing that this build needs; the table says what.
pub(crate) fn run(args: Args) -> Result {
    let mut checks = vec![Check {
        what: "version".into(),
        found: Ok(format!("ramp {} ({})", env!("CARGO_PKG_VERSION"), features())),
        remedy: "",
    }];
    checks.push(Check {
        what: "processor".into(),
        found: Ok(format!("{}, {} threads", vectors(), threads())),
        remedy: "",
    });
    checks.push(Check {
        what: "--device cpu".into(),
        found: opened(&DeviceArg::Cpu),
        remedy: "rebuild with --features flex",
    });
    cuda(&mut checks, args.thorough);

    let mut table = Table::new([("check", Align::Left), ("", Align::Left), ("found", Align::Left)]);
    for Check { what, found, remedy } in &checks {
        let (mark, text) = match found {
            Ok(found) => ("ok", found.clone()),
            Err(why) => ("missing", format!("{why}: {remedy}")),
        };
        table.row([what.clone(), mark.into(), text]);
    }
    output::print(&table.to_string())?;
    let missing = checks.iter().filter(|check| check.found.is_err()).count();
    if missing == 0 {
        Ok(())
    } else {
        Err(Failure::Device(format!("{missing} of {} checks failed", checks.len())))
    }
}

fn opened(device: &DeviceArg) -> std::result::Result<String, String> {
    match device.open(None) {
        Ok(_) => Ok("computes".into()),
        Err(Failure::User(why) | Failure::Device(why)) => Err(why),
        Err(_) => Err("stopped".into()),
    }
}

/// What this build was told to bring, and what a user may miss.
fn features() -> String {
    let all = [
        ("flex", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("cuda", cfg!(feature = "cuda")),
        ("remote", cfg!(feature = "remote")),
        ("parquet", cfg!(feature = "parquet")),
        ("figures", cfg!(feature = "figures")),
    ];
    let names = |built: bool| -> Vec<&str> {
        all.iter().filter(|(_, with)| *with == built).map(|(name, _)| *name).collect()
    };
    let (with, without) = (names(true), names(false));
    match without.as_slice() {
        [] => format!("with {}", with.join(", ")),
        without => format!("with {}; without {}", with.join(", "), without.join(", ")),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The widest vectors that codecs and products use here.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return "x86-64 with AVX-512";
        }
        if std::is_x86_feature_detected!("avx2") {
            return "x86-64 with AVX2";
        }
        "x86-64 without AVX2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "aarch64 with NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        std::env::consts::ARCH
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(checks: &mut Vec<Check>, thorough: bool) {
    if thorough {
        checks.push(Check {
            what: "GPUs".into(),
            found: Ok("skipped: no CUDA in this build".into()),
            remedy: "",
        });
    }
}

/// Driver, compiler, headers, then every GPU.
#[cfg(feature = "cuda")]
fn cuda(checks: &mut Vec<Check>, thorough: bool) {
    use super::panics::quietly;
    use cudarc::{driver::CudaContext, nvrtc::compile_ptx};

    // cudarc panics where a library cannot be loaded.
    let count = quietly(CudaContext::device_count)
        .and_then(|count| count.map_err(|why| format!("{why:?}")))
        .and_then(|count| if count > 0 { Ok(count) } else { Err("no GPU".to_owned()) });
    checks.push(Check {
        what: "NVIDIA driver".into(),
        found: count.clone().map(|count| format!("{count} GPU(s)")),
        remedy: "install NVIDIA's driver, which brings libcuda.so, and see that `nvidia-smi` lists a GPU",
    });
    checks.push(Check {
        what: "NVRTC".into(),
        found: quietly(|| compile_ptx("extern \"C\" __global__ void nothing() {}"))
            .and_then(|ptx| ptx.map_err(|why| format!("{why:?}")))
            .map(|_| "compiles".into()),
        remedy: "put the folder of libnvrtc.so, such as a toolkit's lib64, into LD_LIBRARY_PATH",
    });
    checks.push(Check {
        what: "CUDA headers".into(),
        found: match cubecl::cuda::install::cuda_path() {
            Some(path) if path.join("include/cuda_fp16.h").is_file() => Ok(path.display().to_string()),
            Some(path) => Err(format!("no include/cuda_fp16.h in {}", path.display())),
            None => Err("no CUDA_PATH and no /usr/local/cuda".into()),
        },
        remedy: "install the toolkit's headers and let CUDA_PATH name their toolkit",
    });
    for index in 0..count.unwrap_or(0) as usize {
        let about = quietly(|| -> std::result::Result<String, cudarc::driver::DriverError> {
            let context = CudaContext::new(index)?;
            let ((major, minor), (free, total)) = (context.compute_capability()?, context.mem_get_info()?);
            let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
            let name = context.name()?;
            Ok(format!("{name}, sm_{major}{minor}, {:.1} of {:.1} GiB free", gib(free), gib(total)))
        });
        let about = about.and_then(|about| about.map_err(|why| format!("{why:?}")));
        checks.push(Check {
            what: format!("--device cuda:{index}"),
            found: about
                .and_then(|about| opened(&DeviceArg::Cuda(index)).map(|_| format!("computes; {about}"))),
            remedy: "another program may hold it",
        });
        if thorough && let (Ok(gpu), Ok(cpu)) = (DeviceArg::Cuda(index).open(None), DeviceArg::Cpu.open(None))
        {
            checks.extend(thorough::checks(&gpu, &cpu));
        }
    }
}
