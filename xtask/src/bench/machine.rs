//! What the figures were measured on.

use std::fs;

use anyhow::{Context, Result};

/// Kernel, CPU, number of CPUs, mitigations that a trap pays for, and the load there was, one line each.
pub fn description() -> Result<Vec<(&'static str, String)>> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let cpuinfo = read("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = if cpuinfo.contains(" hypervisor") {
        ", in a virtual machine"
    } else {
        ""
    };
    let load = read("/proc/loadavg")?;
    Ok(vec![
        ("kernel", read("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("CPU", format!("{cpus} × {model}{virtual_machine}")),
        ("load before", load.split(' ').next().unwrap_or_default().to_owned()),
    ])
}

/// Bytes in the kernel's kmalloc caches that live map elements come from (`/proc/slabinfo`: objects in use × size).
pub fn kmalloc_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("cannot read /proc/slabinfo")?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with("kmalloc-"))
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(2);
            let objects: u64 = fields.next()?.parse().ok()?;
            let size: u64 = fields.next()?.parse().ok()?;
            Some(objects * size)
        })
        .sum())
}
