//! Describes the machine without names and paths.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Describes processor, memory, kernel, filesystem and compiler in one line.
pub fn describe(dir: &Path) -> String {
    let model = first_value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: f64 = first_value("/proc/meminfo", "MemTotal")
        .and_then(|total| total.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The version only; the suffix names the distributor.
    let kernel = kernel.split('-').next().unwrap_or_default();
    let rustc = output("rustc", &["--version"]).unwrap_or_else(|| "rustc of unknown version".to_owned());
    format!(
        "Machine: {model}, {cores} cores, {:.0} GiB memory, Linux {}, {}; {}.",
        kib / f64::from(1 << 20),
        kernel.trim(),
        filesystem(dir).unwrap_or_else(|| "unknown filesystem".to_owned()),
        rustc.split(" (").next().unwrap_or_default(),
    )
}

/// The type of the filesystem of a directory.
pub fn filesystem(dir: &Path) -> Option<String> {
    output("stat", &["--file-system", "--format=%T", &dir.to_string_lossy()])
        .map(|kind| if kind == "ext2/ext3" { "ext4".to_owned() } else { kind })
}

fn first_value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
