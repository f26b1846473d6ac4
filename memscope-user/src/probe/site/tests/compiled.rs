//! C functions compiled here under many options: each site is proved by running into it, and against objdump's reading.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use memscope_ebpf::call::{Argument, CallSpec};

use super::super::{Module, ProbeSite, SiteNeed, choose_site_in_module};
use super::elf::{ElfFile, Function};
use super::spec;

/// Each function of the subject, and the C library's function that it stands for.
const SUBJECTS: [(&str, &str); 7] = [
    ("grab", "malloc"),
    ("grab_many", "calloc"),
    ("grab_moved", "malloc"),
    ("grab_aligned", "aligned_alloc"),
    ("regrab", "realloc"),
    ("release", "free"),
    ("release_chain", "free"),
];

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("memscope-site-{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("create a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder left behind harms nothing.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: &str, arguments: I) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {} {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn source(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.0.join(name);
    fs::write(&path, text).expect("write a source");
    path.to_string_lossy().into_owned()
}

#[test]
fn every_site_in_compiled_code_is_passed_by_every_call_with_its_arguments_intact() {
    let folder = Folder::new("proof");
    let subject = source(&folder, "subject.c", include_str!("subject.c"));
    let proof_source = source(&folder, "proof.c", include_str!("proof.c"));
    let at = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
    let proof = at("proof");
    run("gcc", ["-O1", "-mno-red-zone", "-o", &proof, &proof_source, "-ldl"]);
    for protection in ["full", "none"] {
        for level in ["-O0", "-O1", "-O2", "-O3", "-Os"] {
            for frame in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
                let object = at("subject.so");
                let protection_flag = format!("-fcf-protection={protection}");
                run(
                    "gcc",
                    [
                        "-shared",
                        "-fPIC",
                        &protection_flag,
                        level,
                        frame,
                        "-o",
                        &object,
                        &subject,
                    ],
                );
                let build = format!("{protection_flag} {level} {frame}");
                let elf = ElfFile::read(Path::new(&object));
                let branch_targets = branch_targets(Path::new(&object));
                for (function, like) in SUBJECTS {
                    let row = spec(like);
                    let need = SiteNeed::of(&row);
                    let function = elf.function(function).expect("a subject");
                    let site = choose(&elf, function, need);
                    let told = format!("{build} {}: {site:?}", function.name);
                    assert!(
                        protection == "none" || site.offset >= 4 || !site.is_emulated(),
                        "endbr64: {told}"
                    );
                    let between = function.address.0 + 1..=site.address().0;
                    assert!(!branch_targets.iter().any(|target| between.contains(target)), "{told}");
                    if site.re_entered {
                        // Its loop begins with the function: no instruction sees each call once.
                        assert!(function.name == "grab_aligned" && level == "-Os", "{told}");
                        continue;
                    }
                    prove(&proof, &object, function, &site, row, need, &told);
                }
            }
        }
    }
}

#[test]
fn compiled_code_has_cheap_sites() {
    let folder = Folder::new("cheap");
    let subject = source(&folder, "cheap.c", include_str!("subject.c"));
    let object = folder.0.join("cheap.so").to_string_lossy().into_owned();
    for (level, expensive) in [("-O0", 0), ("-O2", 1)] {
        run(
            "gcc",
            [
                "-shared",
                "-fPIC",
                "-fcf-protection=full",
                level,
                "-o",
                &object,
                &subject,
            ],
        );
        let elf = ElfFile::read(Path::new(&object));
        let sites: Vec<_> = SUBJECTS
            .iter()
            .map(|(name, like)| choose(&elf, elf.function(name).expect("a subject"), SiteNeed::of(&spec(like))))
            .filter(|site| !site.is_emulated())
            .collect();
        // At -O2 grab_aligned's loop begins before its first branch: only the entry is sure.
        assert_eq!(sites.len(), expensive, "{level}: {sites:#?}");
    }
}

fn choose(elf: &ElfFile, function: &Function, need: SiteNeed) -> ProbeSite {
    let entries: Vec<_> = elf.functions.iter().map(|function| function.address).collect();
    let module = Module {
        text: elf.text(),
        text_address: elf.text_address(),
        other_entries: &entries,
    };
    choose_site_in_module(elf.code(function), function.address, need, module)
}

/// Runs into the site forty times, ten of them with NULL or 0.
fn prove(proof: &str, object: &str, function: &Function, site: &ProbeSite, row: CallSpec, need: SiteNeed, told: &str) {
    let there = site.spec_at_site(row);
    let mut places = [0, 1, 2, 3, 4, 5];
    let moved = [
        (row.size, there.size),
        (row.count, there.count),
        (row.pointer, there.pointer),
    ];
    for (from, to) in moved.into_iter().filter_map(|(from, to)| Some((from?, to?))) {
        places[usize::from(from.position())] = to.position();
    }
    let places: String = places.iter().map(u8::to_string).collect();
    let mask: u32 = need
        .arguments
        .iter()
        .map(|argument: Argument| 1 << argument.position())
        .sum();
    let is_node = function.name == "release_chain";
    let words = [
        "60".to_owned(),
        proof.to_owned(),
        object.to_owned(),
        function.name.clone(),
        site.offset.to_string(),
        places,
        mask.to_string(),
        u8::from(need.return_address).to_string(),
        u8::from(is_node).to_string(),
    ];
    let null_hits = if site.null_bypasses { 0 } else { 10 };
    assert_eq!(
        run("timeout", &words).trim(),
        format!("{null_hits} 30 10 30 0"),
        "{told}"
    );
}

/// Addresses that objdump sees direct branches go to.
pub(super) fn branch_targets(object: &Path) -> Vec<u64> {
    let options = ["-d", "--no-show-raw-insn"].map(OsStr::new);
    let listing = run("objdump", options.into_iter().chain([object.as_os_str()]));
    let targets: Vec<u64> = listing
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .filter(|(_, text)| text.starts_with('j') || text.starts_with("call") || text.starts_with("loop"))
        .filter_map(|(_, text)| u64::from_str_radix(text.split_whitespace().nth(1)?, 16).ok())
        .collect();
    assert!(targets.len() > 10, "objdump's listing was not understood");
    targets
}
