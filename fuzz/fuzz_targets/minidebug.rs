//! `.gnu_debugdata`: an xz stream in an image that is otherwise good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::target::elf::ElfImage;
use memscope_fuzz::{elf, seeds};
use std::process::{Command, Stdio};

fuzz_target!(init: seeds::plant(streams()), |data: &[u8]| {
    let image = ElfImage::parse(elf::with(&[0xc3], &[(".gnu_debugdata", 0, data)])).expect("its headers are good");
    let mut count = 0u64;
    let _problems = image.visit_functions(&mut |_| count += 1);
});

/// What `xz` makes of small files, in its several ways; none where there is no `xz`.
fn streams() -> Vec<Vec<u8>> {
    let image = seeds::images().into_iter().next().unwrap_or_default();
    let text: Vec<u8> = (0..60)
        .flat_map(|n| format!("{n} bottles hang on wall {}\n", n * n % 17).into_bytes())
        .collect();
    let mut streams = Vec::new();
    for content in [&image, &text] {
        for options in [
            &["-9"][..],
            &["-0", "--check=none"],
            &["--check=sha256", "--block-size=500"],
            &["--lzma2=lc=4,pb=0"],
        ] {
            streams.extend(compressed(content, options));
        }
    }
    streams
}

fn compressed(content: &[u8], options: &[&str]) -> Option<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("memscope-fuzz-{}.xz-seed", std::process::id()));
    std::fs::write(&path, content).ok()?;
    let output = Command::new("xz")
        .arg("-c")
        .args(options)
        .arg(&path)
        .stderr(Stdio::null())
        .output()
        .ok();
    std::fs::remove_file(&path).ok()?;
    output.map(|output| output.stdout).filter(|stream| !stream.is_empty())
}
