//! Targets that mean harm: files mapped as code that lie about themselves, stacks that lead nowhere. The answer gets poorer;
//! nothing panics, and neither memory nor time goes beyond bounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use memscope_tests::difference::assert_same;
use memscope_tests::memscope::{Memscope, Output, complete};
use memscope_tests::program::Program;
use memscope_tests::report::{Database, Report};
use memscope_tests::session::Session;
use memscope_tests::target::Target;

/// What memscope may allocate while it looks at files of some megabytes.
const MEMORY: &str = "--data=536870912";

/// Runs memscope with bounded memory; the harness bounds its time.
fn bounded(memscope: &Memscope, arguments: &[&str]) -> Output {
    let plain = memscope.command(arguments);
    let mut command = Command::new("prlimit");
    command
        .arg(MEMORY)
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command);
    assert!(!output.stderr.contains("panicked at"), "a bug of ours\n{output}");
    output
}

/// The bytes of a library that is in order.
fn library() -> Vec<u8> {
    let path = Program::new("lib_alloc.c").flags(&["-shared", "-fPIC"]).build();
    fs::read(path).expect("the library")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Places of the section headers.
fn section_headers(bytes: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let table = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize;
    (0..usize::from(u16::from_le_bytes([bytes[60], bytes[61]]))).map(move |index| table + index * 64)
}

/// A file of this content for targets to map, removed at the end.
struct Mapped(PathBuf);

impl Mapped {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("memscope-hostile-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("a file");
        Self(path)
    }

    /// The library with a section more, made by objcopy.
    fn with_section(name: &str, section: &str, content: &[u8]) -> Self {
        let mapped = Self::new(name, &library());
        let part = Self::new(&format!("{name}.part"), content);
        let status = Command::new("objcopy")
            .arg(format!("--add-section={section}={}", part.path().display()))
            .arg(mapped.path())
            .status();
        assert!(status.expect("objcopy runs").success());
        mapped
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // A file too many in the folder for temporary ones harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

/// Maps the files, does `then` to them, and demands that every command works and the target's own blocks are exact.
fn harmless(mapped: &[Mapped], then: impl FnOnce()) {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("hostile.c").build(), &[]);
    let pid = target.pid().to_string();
    for file in mapped {
        target.act(&format!("map {}", file.path().display()));
    }
    then();
    bounded(&memscope, &["doctor", &pid]).expect_code(0);
    let session = Session::guard(&memscope, target.pid());
    bounded(&memscope, &["attach", "-v", &pid]).expect_code(0);
    target.act("take 10007");
    let database = print(&memscope, &pid);
    assert_same(&target.ledger(), &database, "the target's own blocks");
    bounded(&memscope, &["report", &pid]).expect_code(0);
    bounded(&memscope, &["os", "t", &pid]).expect_code(0);
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

fn print(memscope: &Memscope, pid: &str) -> Database {
    let output = bounded(memscope, &["print", pid, "--age", "0", "--format", "json"]).expect_code(0);
    Report::parse(&output.stdout).only()
}

#[test]
fn a_mapped_file_cut_short_costs_its_own_names_only() {
    let whole = library();
    let lengths = [0, 1, 63, 64, 200, 4096, whole.len() as u64 - 1];
    let files = lengths.map(|length| (Mapped::new(&format!("cut-{length}"), &whole), length));
    let (files, lengths): (Vec<Mapped>, Vec<u64>) = files.into_iter().unzip();
    harmless(&files, || {
        for (mapped, length) in files.iter().zip(lengths) {
            let file = fs::OpenOptions::new().write(true).open(mapped.path());
            file.and_then(|file| file.set_len(length)).expect("shorter");
        }
    });
}

#[test]
fn headers_that_point_past_the_end_cost_their_own_names_only() {
    let whole = library();
    let mut files = vec![b"\x7fELF".to_vec(), vec![0xcc; 5000]];
    let mut changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        files.push(bytes);
    };
    // The tables of segments and sections, their counts, and every offset and size in them.
    changed(&|bytes| put(bytes, 32, &u64::MAX.to_le_bytes()));
    changed(&|bytes| put(bytes, 40, &(u64::MAX - 63).to_le_bytes()));
    changed(&|bytes| put(bytes, 56, &u16::MAX.to_le_bytes()));
    changed(&|bytes| put(bytes, 60, &[0, 0]));
    for field in [16, 24, 32] {
        for value in [u64::MAX, 1 << 62, 1 << 40] {
            changed(&|bytes| {
                for header in section_headers(bytes) {
                    put(bytes, header + field, &value.to_le_bytes());
                }
            });
        }
    }
    for field in [8, 16, 32, 40] {
        changed(&|bytes| {
            let count = usize::from(u16::from_le_bytes([bytes[56], bytes[57]]));
            for index in 0..count {
                put(bytes, 64 + index * 56 + field, &(u64::MAX - 4095).to_le_bytes());
            }
        });
    }
    let mapped = |(number, bytes): (usize, &Vec<u8>)| Mapped::new(&format!("headers-{number}"), bytes);
    let files: Vec<Mapped> = files.iter().enumerate().map(mapped).collect();
    harmless(&files, || {});
}

#[test]
fn symbol_tables_by_the_ten_thousand_are_read_once() {
    let mut bytes = library();
    let headers: Vec<usize> = section_headers(&bytes).collect();
    // SHT_SYMTAB is 2.
    let table = *headers.iter().find(|at| bytes[**at + 4] == 2).expect("symbols");
    let mut copies: Vec<u8> = headers.iter().flat_map(|at| bytes[*at..at + 64].to_vec()).collect();
    let new_table = bytes.len();
    let mut copy = bytes[table..table + 64].to_vec();
    put(&mut copy, 24, &0u64.to_le_bytes());
    put(&mut copy, 32, &(3_000_000u64).to_le_bytes());
    copies.extend(copy.repeat(60_000));
    let count = (headers.len() + 60_000) as u16;
    bytes.extend(copies);
    put(&mut bytes, 40, &(new_table as u64).to_le_bytes());
    put(&mut bytes, 60, &count.to_le_bytes());
    harmless(&[Mapped::new("symbols", &bytes)], || {});
}

/// A record of `.debug_frame` with its length.
fn record(body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(8) + 4, 0);
    [&(padded.len() as u32).to_le_bytes()[..], &padded].concat()
}

/// A CIE, then as many FDEs; each begins where the last did, and one byte on.
fn debug_frame(entries: u64, size: u64, instructions: &[u8]) -> Vec<u8> {
    let mut section = record(&[0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]);
    for entry in 0..entries {
        let mut body = 0u32.to_le_bytes().to_vec();
        body.extend((0x1000 + entry).to_le_bytes());
        body.extend(size.to_le_bytes());
        body.extend_from_slice(instructions);
        section.extend(record(&body));
    }
    section
}

#[test]
fn overlapping_frame_entries_and_rows_by_the_million_are_bounded() {
    let overlapping = debug_frame(200_000, 1 << 40, &[0x41, 0x0e, 16]);
    let rows = debug_frame(1, 1 << 40, &[0x41, 0x0e, 16, 0x41, 0x0e, 24].repeat(5 << 20));
    let files = [
        Mapped::with_section("overlapping", ".debug_frame", &overlapping),
        Mapped::with_section("rows", ".debug_frame", &rows),
    ];
    harmless(&files, || {});
}

#[test]
fn tables_of_many_images_are_bounded_together_and_what_found_no_room_is_told() {
    const ID: [u8; 8] = [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let flags = ["-shared", "-fPIC", "-Wl,--build-id=0x0123456789abcdef"];
    let mut image = fs::read(Program::new("many_rows.c").flags(&flags).build()).expect("the library");
    let id = image.windows(8).position(|bytes| bytes == ID).expect("its build id");
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("hostile.c").build(), &[]);
    let pid = target.pid().to_string();
    // Each has 400 000 rows, and a session four millions.
    let mut files = Vec::new();
    for number in 0..20 {
        image[id] = number;
        files.push(Mapped::new(&format!("rows-{number}.so"), &image));
        target.act(&format!("map {}", files[usize::from(number)].path().display()));
    }
    let session = Session::guard(&memscope, target.pid());
    let attached = bounded(&memscope, &["attach", "-v", &pid]).expect_code(0);
    let told = "no room for the unwind tables of memscope-hostile-";
    assert!(attached.stderr.contains(told), "{attached}");
    let stats = bounded(&memscope, &["stats", &pid]).expect_code(0);
    assert!(stats.stdout.contains(told), "{stats}");
    let rows = memscope.session_file().0["capacities"]["rows"].as_u64();
    assert!(rows <= Some(4 << 20), "{rows:?}");
    // libc is small, and has its table.
    target.act("take 10007");
    let database = print(&memscope, &pid);
    assert_same(&target.ledger(), &database, "the target's own blocks");
    assert!(database.stack(database.of_size(10_007)[0]).complete);
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_decompression_bomb_is_not_unpacked() {
    let mut stream = b"\xfd7zXZ\0\0\x00\xff\x12\xd9\x41\x02\0\x21\x01\x16\0\0\0\x74\x2f\xe5\xa3".to_vec();
    // Chunks of 2 MiB out of 20 bytes each; only the first says that its dictionary is new.
    for index in 0..100_000 {
        stream.push(if index == 0 { 0xff } else { 0x9f });
        stream.extend([0xff, 0xff, 0x00, 19]);
        stream.extend(if index == 0 { &[0x5d][..] } else { &[] });
        stream.extend([0; 20]);
    }
    harmless(&[Mapped::with_section("bomb", ".gnu_debugdata", &stream)], || {});
}

/// The block of that size: how its stack ends, after the allocator's frame.
fn end(database: &Database, size: u64) -> String {
    let blocks = database.of_size(size);
    let [block] = blocks[..] else {
        panic!("one block of {size}: {database:#?}")
    };
    let stack = database.stack(block);
    assert!(!stack.complete, "{stack:#?}");
    assert!(stack.frames.len() < 10, "{stack:#?}");
    assert_eq!(database.functions(block)[0], "malloc", "{stack:#?}");
    stack.end.clone().expect("a reason")
}

#[test]
fn stacks_that_lead_nowhere_end_with_a_reason_and_keep_their_blocks() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("hostile.c").build(), &[]);
    let session = memscope.attach(&target);
    for command in ["cycle", "circle", "astray", "unreadable"] {
        target.act(command);
    }
    let database = session.print().without_the_linkers_own();
    assert_same(&target.ledger(), &database, "blocks of hostile stacks");
    assert_eq!(end(&database, 10_007), "cycle");
    assert_eq!(end(&database, 40_009), "frame pointers end here");
    assert_eq!(end(&database, 20_011), "frame pointers end here");
    assert_eq!(end(&database, 30_011), "unreadable stack");
    session.detach();
    assert_eq!(target.quit().code, Some(0));
}
