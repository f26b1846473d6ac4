//! Images cut short, changed at random (with fixed seeds), and made to eat memory: an error or a poorer answer, never a
//! panic.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Asks everything of an image.
fn ask(bytes: Vec<u8>) {
    let Ok(image) = ElfImage::parse(bytes) else {
        return;
    };
    let mut addresses = Vec::new();
    let _problems = image.visit_functions(&mut |function| addresses.push((function.address, function.size)));
    for (address, size) in addresses {
        let _code = image.code(address, size.min(64));
        let _offset = image.segments().to_offset(address);
    }
    let _unreadable = image.visit_slots(&mut |_| {});
    for section in image.sections() {
        let _bytes = image.section_bytes(section);
    }
    for segment in image.segments().as_slice() {
        let _address = image.segments().to_address(segment.offset);
    }
    let _facts = (
        image.build_id(),
        image.soname(),
        image.problems(),
        image.has_full_symbols(),
    );
}

/// Marsaglia's xorshift: the same numbers on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A small library with every kind of table: both hash styles, relocations, indirect functions, compressed symbols.
fn victim(folder: &Folder) -> Vec<u8> {
    let source = format!(
        "{LIBRARY}\nstatic void *real(void) {{ return 0; }}\nstatic void *choose(void) {{ return real; }}\n\
         void *indirect(void) __attribute__((ifunc(\"choose\")));\nextern void outside(void *);\n\
         void caller(void) {{ outside(indirect()); }}\n"
    );
    let options = ["-shared", "-fPIC", "-O0", "-Wl,--hash-style=both", "-nostdlib"];
    folder.compile("lib.so", &source, &options);
    folder.tool("objcopy", &["--only-keep-debug", "lib.so", "mini"]);
    let mini = std::fs::read(folder.path("mini")).expect("the image");
    let mut compressed = Vec::new();
    lzma_rs::xz_compress(&mut mini.as_slice(), &mut compressed).expect("memory");
    std::fs::write(folder.path("mini.xz"), compressed).expect("the section's content");
    folder.tool("objcopy", &["--add-section", ".gnu_debugdata=mini.xz", "lib.so"]);
    std::fs::read(folder.path("lib.so")).expect("the library")
}

/// How many rounds to go: `MEMSCOPE_FUZZ=100` makes a test a hundred times as long.
pub(super) fn rounds(usual: u64) -> u64 {
    let times = std::env::var("MEMSCOPE_FUZZ").ok().and_then(|times| times.parse().ok());
    usual * times.unwrap_or(1)
}

#[test]
fn an_image_cut_short_anywhere() {
    let folder = Folder::new("cut");
    let whole = victim(&folder);
    for length in (0..whole.len()).filter(|length| *length < 2048 || length % 7 == 0) {
        ask(whole[..length].to_vec());
    }
}

#[test]
fn an_image_with_bytes_changed() {
    let folder = Folder::new("changed");
    let whole = victim(&folder);
    // The same with its sections taken away, so that the dynamic section is what is followed.
    let mut bare = whole.clone();
    bare[40..48].fill(0);
    bare[58..64].fill(0);
    let odd = [0x00, 0xff, 0x7f, 0x80, 0x01, 0xfe, 0x40];
    for seed in 1..=rounds(3000) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = if seed % 2 == 0 { whole.clone() } else { bare.clone() };
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            bytes[at] = odd[random.below(odd.len())];
        }
        ask(bytes);
    }
}

#[test]
fn every_field_of_the_headers_set_to_extremes() {
    let folder = Folder::new("extremes");
    let whole = victim(&folder);
    let word = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().expect("8 bytes")) as usize;
    let sections = word(40);
    let program_headers = 64..64 + 56 * usize::from(whole[56]);
    let dynamic = image(&folder.path("lib.so"))
        .section(".dynamic")
        .expect("dynamic")
        .clone();
    let dynamic = dynamic.offset.0 as usize..(dynamic.offset.0 + dynamic.size) as usize;
    for range in [0..64, program_headers, sections..whole.len(), dynamic] {
        for at in range.step_by(4) {
            for value in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff_u32] {
                let mut bytes = whole.clone();
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                ask(bytes);
            }
        }
    }
}

/// An image that claims to be a terabyte long, and says so of its tables: reading it gives zeros.
struct Endless(Vec<u8>);

impl ImageBytes for Endless {
    fn size(&self) -> u64 {
        1 << 40
    }

    fn read_into(&self, offset: FileOffset, buffer: &mut [u8]) -> io::Result<()> {
        assert!(buffer.len() as u64 <= MAX_PIECE, "{} bytes at once", buffer.len());
        let start = self.0.len().min(usize::try_from(offset.0).unwrap_or(usize::MAX));
        let count = buffer.len().min(self.0.len() - start);
        buffer[..count].copy_from_slice(&self.0[start..start + count]);
        Ok(())
    }
}

#[test]
fn sizes_beyond_the_limit_take_no_memory() {
    let folder = Folder::new("endless");
    let path = folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC"]);
    let symtab = image(&path)
        .sections()
        .iter()
        .position(|section| section.name == ".symtab")
        .expect("symbols");
    let mut bytes = std::fs::read(&path).expect("the library");
    let sections = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize;
    let size = sections + symtab * 64 + 32;
    bytes[size..size + 8].copy_from_slice(&(1_u64 << 39).to_le_bytes());
    let image = ElfImage::parse(Endless(bytes)).expect("its headers are good");
    let problems = image.visit_functions(&mut |_| {});
    assert!(matches!(problems[..], [ElfError::TooLarge { .. }]), "{problems:?}");
    let symtab = image.section(".symtab").expect("symbols");
    assert!(matches!(image.section_bytes(symtab), Err(ElfError::TooLarge { .. })));
}

#[test]
fn a_file_cut_short_under_us_is_an_error() {
    let folder = Folder::new("under");
    let path = folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC"]);
    let image = image(&path);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the library");
    file.set_len(4096).expect("shorter");
    let problems = image.visit_functions(&mut |_| {});
    assert!(
        problems.iter().any(|problem| matches!(problem, ElfError::Read { .. })),
        "{problems:?}"
    );
}

#[test]
fn a_note_that_never_ends() {
    let note = [
        &4_u32.to_le_bytes()[..],
        &u32::MAX.to_le_bytes(),
        &3_u32.to_le_bytes(),
        b"GNU\0",
    ]
    .concat();
    assert_eq!(note::build_id(&note, 4), None);
    assert_eq!(note::build_id(&[0xff; 64], 8), None);
    assert_eq!(note::build_id(&[0; 64], 4), None);
}

/// Counts the bytes that are read of an image.
struct Counted(Vec<u8>, Arc<AtomicU64>);

impl ImageBytes for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_into(&self, offset: FileOffset, buffer: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.0.read_into(offset, buffer)
    }
}

/// The library with `count` more sections, each a copy of the one with this name, and each as long as all of the file.
fn with_copies(library: &[u8], name: &str, count: u16) -> Vec<u8> {
    let image = ElfImage::parse(library.to_vec()).expect("a library");
    let index = image
        .sections()
        .iter()
        .position(|section| section.name == name)
        .expect("the section");
    let table = u64::from_le_bytes(library[40..48].try_into().expect("8 bytes")) as usize;
    let known = u16::from_le_bytes([library[60], library[61]]);
    let mut bytes = library.to_vec();
    let new_table = bytes.len() as u64;
    bytes.extend_from_slice(&library[table..table + usize::from(known) * 64]);
    let mut copy = library[table + index * 64..][..64].to_vec();
    copy[24..32].fill(0);
    copy[32..40].copy_from_slice(&(new_table / 24 * 24).to_le_bytes());
    for _ in 0..count {
        bytes.extend_from_slice(&copy);
    }
    bytes[40..48].copy_from_slice(&new_table.to_le_bytes());
    bytes[60..62].copy_from_slice(&(known + count).to_le_bytes());
    bytes
}

#[test]
fn sections_that_repeat_one_table_do_not_multiply_the_work() {
    let folder = Folder::new("copies");
    let library = victim(&folder);
    for name in [".symtab", ".dynsym", ".rela.plt"] {
        let bytes = with_copies(&library, name, 60_000);
        let (size, read) = (bytes.len() as u64, Arc::new(AtomicU64::new(0)));
        let image = ElfImage::parse(Counted(bytes, Arc::clone(&read))).expect("its headers are good");
        let mut functions = 0u64;
        let _problems = image.visit_functions(&mut |_| functions += 1);
        let _unreadable = image.visit_slots(&mut |_| {});
        let read = read.load(Ordering::Relaxed);
        assert!(read < 8 * size, "{name}: {read} bytes read of {size}");
        assert!(functions < size, "{name}: {functions}");
    }
}
