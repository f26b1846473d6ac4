//! Seeds: real inputs to begin with, made of files of this machine each time a target starts, so that none is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memscope::target::elf::ElfImage;

/// Larger libraries would make every input slow.
const LARGEST_LIBRARY: u64 = 48 << 10;

/// Libraries that are taken, the smallest ones.
const LIBRARIES: usize = 12;

/// Puts the seeds into the first folder named on the command line, libFuzzer's corpus. Without one nothing is done: a
/// single input is being run again.
pub fn plant(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let folder = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .find(|path| path.is_dir());
    let Some(folder) = folder else { return };
    for (number, seed) in seeds.into_iter().enumerate() {
        let path = folder.join(format!("seed-{number}"));
        fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Lines of a text, each a seed.
pub fn lines(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec())
}

/// Small ELF files: libraries of this machine, and one compiled here that has every kind of table.
pub fn images() -> Vec<Vec<u8>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_library = entry.file_name().to_string_lossy().contains(".so");
            // Of several names of one file only the file itself.
            let size = entry
                .path()
                .symlink_metadata()
                .ok()
                .filter(|data| data.is_file())
                .map(|data| data.len());
            if let Some(size) = size.filter(|size| is_library && *size <= LARGEST_LIBRARY) {
                found.push((size, entry.path()));
            }
        }
    }
    found.sort();
    let libraries = found.iter().take(LIBRARIES).filter_map(|(_, path)| fs::read(path).ok());
    compiled()
        .into_iter()
        .chain(libraries)
        .filter(|bytes| bytes.starts_with(b"\x7fELF"))
        .collect()
}

/// With both hash styles, relocations, an indirect function, debug information and an allocator; and the same stripped of
/// its section headers. None without a C compiler.
fn compiled() -> Vec<Vec<u8>> {
    const SOURCE: &str = "static void *real(unsigned long n) { return (char *)0 + n; }\n\
        static void *choose(void) { return real; }\n\
        void *indirect(unsigned long) __attribute__((ifunc(\"choose\")));\nextern void outside(void *);\n\
        void *malloc(unsigned long n) { outside(indirect(n)); return (void *)n; }\n\
        void free(void *p) { if (p) outside(p); }\n\
        const char *__lsan_default_suppressions(void) { return \"leak:real\\n\"; }\n";
    let folder = std::env::temp_dir().join(format!("memscope-fuzz-seeds-{}", std::process::id()));
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).current_dir(&folder).status();
        status.is_ok_and(|status| status.success())
    };
    let options = "-shared -fPIC -g -O1 -nostdlib -Wl,--hash-style=both seed.c -o seed.so";
    let options: Vec<&str> = options.split(' ').collect();
    let mut images = Vec::new();
    if fs::create_dir_all(&folder).is_ok()
        && fs::write(folder.join("seed.c"), SOURCE).is_ok()
        && run("cc", &options)
        && let Ok(whole) = fs::read(folder.join("seed.so"))
    {
        let mut bare = whole.clone();
        // e_shoff, and e_shentsize to e_shstrndx.
        bare[40..48].fill(0);
        bare[58..64].fill(0);
        images.extend([whole, bare]);
    }
    // Whatever is left of it is in the folder for temporary files.
    let _ = fs::remove_dir_all(&folder);
    images
}

/// The bytes of a section of each image that has it, with its distance from `.text`.
pub fn sections(name: &str) -> Vec<(i32, Vec<u8>)> {
    let of_image = |bytes: Vec<u8>| {
        let image = ElfImage::parse(bytes).ok()?;
        let section = image.section(name)?;
        let distance = section
            .address
            .0
            .wrapping_sub(image.section(".text")?.address.0)
            .cast_signed();
        Some((i32::try_from(distance).ok()?, image.section_bytes(section).ok()?))
    };
    images().into_iter().filter_map(of_image).collect()
}

/// The code of each image.
pub fn code() -> Vec<Vec<u8>> {
    sections(".text").into_iter().map(|(_, bytes)| bytes).collect()
}

/// The text of a file of this machine; empty if it cannot be read.
pub fn file(path: &str) -> Vec<u8> {
    fs::read(Path::new(path)).unwrap_or_default()
}
