//! Discovery in compiled images that do not run.

use memscope_ebpf::call::CallKind;

use super::*;
use crate::target::compiled::Folder;

const MAIN: &str = "int main(void) { return 0; }\n";

/// A library with plain `malloc` and `free` and whatever else is given.
fn library(folder: &Folder, more: &str) -> std::path::PathBuf {
    let source = format!(
        "void *malloc(unsigned long n) {{ return (void *)n; }}\nvoid free(void *p) {{ *(char *)p = 1; }}\n{more}"
    );
    folder.compile("lib.so", &source, &["-shared", "-fPIC"])
}

#[test]
fn a_static_program_has_the_c_librarys_allocator_until_it_is_stripped() {
    let folder = Folder::new("static");
    let source = "#include <stdlib.h>\nint main(void) { free(realloc(calloc(1, 2), 3)); return 0; }\n";
    for options in [&["-static"][..], &["-static-pie"]] {
        let program = folder.compile("program", source, options);
        let discovery = in_file(&program);
        assert_eq!(names(&discovery), [AllocatorName::Glibc], "{discovery}");
        for name in ["malloc", "free", "calloc", "realloc"] {
            named(&discovery, name);
        }
        folder.tool("strip", &["program"]);
        let discovery = in_file(&program);
        assert!(discovery.is_empty(), "{discovery}");
        assert_eq!(discovery.looked_at[0].outcome, Outcome::Nothing { stripped: true });
        let text = discovery.not_found_text("process 7 (program)");
        assert!(
            text.starts_with("no known allocator found in process 7 (program); looked at:\n"),
            "{text}"
        );
        assert!(
            text.contains("program: exports no allocator; stripped") && text.contains("--alloc"),
            "{text}"
        );
    }
}

#[test]
fn imports_are_no_definitions() {
    let folder = Folder::new("imports");
    // Comparing a function's address gives the import one of its own in a program at fixed addresses.
    let source = "#include <stdlib.h>\nvoid *(*p)(unsigned long) = malloc;\nint main(void) { return p(1) == 0; }\n";
    for options in [&["-no-pie"][..], &["-pie"]] {
        let discovery = in_file(&folder.compile("program", source, options));
        assert_eq!(discovery.looked_at[0].outcome, Outcome::Nothing { stripped: false });
    }
}

#[test]
fn jemalloc_is_found_under_any_prefix() {
    let folder = Folder::new("prefix");
    for prefix in ["je_", "_rjem_", ""] {
        let functions = "mallocx rallocx dallocx sdallocx xallocx malloc calloc realloc free posix_memalign _Znwm";
        let source: String = functions
            .split(' ')
            .enumerate()
            .map(|(index, name)| {
                let prefix = if name.starts_with('_') { "" } else { prefix };
                format!("long {prefix}{name}(long a) {{ return a + {index}; }}\n")
            })
            .collect();
        let discovery = in_file(&folder.compile("program", &format!("{source}{MAIN}"), &[]));
        let name = AllocatorName::Jemalloc { prefix: prefix.into() };
        assert_eq!(names(&discovery), [name], "{discovery}");
        assert_eq!(
            named(&discovery, &format!("{prefix}xallocx")).call.kind,
            CallKind::ResizeInPlace
        );
        assert_eq!(
            named(&discovery, &format!("{prefix}rallocx")).call.kind,
            CallKind::Realloc
        );
        named(&discovery, "_Znwm");
        assert_eq!(discovery.functions().count(), 11, "{discovery}");
    }
}

#[test]
fn a_linked_in_allocator_beside_the_c_librarys_keeps_its_own_rule() {
    let folder = Folder::new("beside");
    let source = "#include <stdlib.h>\n\
        void *mi_malloc(unsigned long n) { return (void *)n; }\nvoid mi_free(void *p) { *(char *)p = 2; }\n\
        void *mi_realloc(void *p, unsigned long n) { return (char *)p + n; }\n\
        int main(void) { free(realloc(malloc(1), 2)); return 0; }\n";
    let discovery = in_file(&folder.compile("program", source, &["-static"]));
    assert_eq!(
        names(&discovery),
        [AllocatorName::Glibc, AllocatorName::Mimalloc],
        "{discovery}"
    );
    assert!(named(&discovery, "realloc").call.zero_size_frees);
    assert!(!named(&discovery, "mi_realloc").call.zero_size_frees);
}

#[test]
fn an_overriding_mimalloc_owns_the_c_names() {
    let folder = Folder::new("override");
    let source = "void *mi_malloc(unsigned long n) { return (void *)n; }\nvoid mi_free(void *p) { *(char *)p = 2; }\n\
        void *malloc(unsigned long) __attribute__((alias(\"mi_malloc\")));\n\
        void free(void *) __attribute__((alias(\"mi_free\")));\n\
        void *realloc(void *p, unsigned long n) { return (char *)p + n; }\n";
    let discovery = in_file(&folder.compile("lib.so", source, &["-shared", "-fPIC"]));
    assert_eq!(names(&discovery), [AllocatorName::Mimalloc], "{discovery}");
    assert_eq!(named(&discovery, "mi_malloc").name, "malloc");
    assert!(!named(&discovery, "realloc").call.zero_size_frees);
}

#[test]
fn names_of_one_address_are_probed_once() {
    let folder = Folder::new("aliases");
    let discovery = in_file(&library(
        &folder,
        "void cfree(void *) __attribute__((alias(\"free\")));\n\
         void *calloc(unsigned long, unsigned long) __attribute__((alias(\"malloc\")));\n",
    ));
    assert_eq!(named(&discovery, "free").aliases, ["cfree"]);
    // The same code cannot take its size from two places.
    assert_eq!(discovery.functions().count(), 2, "{discovery}");
    assert!(
        discovery
            .to_string()
            .contains("calloc not probed: the same code as malloc"),
        "{discovery}"
    );
}

#[test]
fn a_jump_to_a_probed_function_of_the_same_role_is_its_alias() {
    let folder = Folder::new("jumps");
    let discovery = in_file(&library(
        &folder,
        "__asm__(\".globl valloc, pvalloc, cfree, reallocarray\\n\"\n\
                 \".type valloc, @function\\n.type pvalloc, @function\\n.type cfree, @function\\n\"\n\
                 \".type reallocarray, @function\\n\"\n\
                 \"pvalloc: endbr64\\njmp valloc_\\n\"\n\
                 \"valloc: valloc_: .byte 0xe9; .long malloc_ - 1f\\n1:\\n\"\n\
                 \"cfree: jmp cfree_\\n.hidden cfree_\\ncfree_: jmp cfree_\\n\"\n\
                 \"reallocarray: .byte 0xe9; .long malloc_ - 1f\\n1:\\n\");\n\
         extern void *malloc_(unsigned long) __attribute__((alias(\"malloc\"), visibility(\"hidden\")));\n",
    ));
    let malloc = named(&discovery, "malloc");
    let mut aliases = malloc.aliases.clone();
    aliases.sort();
    assert_eq!(aliases, ["pvalloc", "valloc"], "{discovery}");
    assert_eq!(malloc.name, "malloc", "the first of the catalogue's names is shown");
    // Another role, or a circle: each is probed by itself.
    named(&discovery, "reallocarray");
    named(&discovery, "cfree");
    assert_eq!(discovery.functions().count(), 4, "{discovery}");
}

#[test]
fn only_one_of_malloc_and_free_is_no_allocator() {
    let folder = Folder::new("half");
    let source = "void *malloc(unsigned long n) { return 0; }\n";
    let discovery = in_file(&folder.compile("lib.so", source, &["-shared", "-fPIC"]));
    assert!(matches!(&discovery.looked_at[0].outcome, Outcome::Ignored { reason } if reason.contains("only one")));
}

#[test]
fn a_library_of_operators_alone_is_ignored() {
    let folder = Folder::new("operators");
    let source =
        "void *malloc(unsigned long);\nvoid *_Znwm(unsigned long n) { return malloc(n); }\nvoid _ZdlPv(void *p) {}\n";
    let discovery = in_file(&folder.compile("lib.so", source, &["-shared", "-fPIC"]));
    assert!(discovery.is_empty());
    assert!(
        discovery.to_string().contains("ignored: its C++ operators call malloc"),
        "{discovery}"
    );
}

/// C with the linker names that rustc gives its allocation functions, old or new.
fn rust(names: &[&str], mangled: bool) -> String {
    let define = |name: &&str| {
        let linker = if mangled && name.starts_with("__r") {
            format!("_RNvCsfLfy6EI15iL_7___rustc{}_{name}", name.len())
        } else {
            (*name).to_owned()
        };
        format!(
            "long {name}(long a) __asm__(\"{linker}\");\nlong {name}(long a) {{ return a + {}; }}\n",
            name.len()
        )
    };
    names.iter().map(define).collect::<String>() + MAIN
}

#[test]
fn rusts_functions_are_probed_only_where_they_reach_no_known_allocator() {
    let folder = Folder::new("rust");
    let own = [
        "__rust_alloc",
        "__rust_alloc_zeroed",
        "__rust_dealloc",
        "__rust_realloc",
    ];
    let with_default = [&own[..], &["__rdl_alloc"]].concat();
    // What the linker leaves of them in a Rust program.
    let with_jemalloc = [
        &own[..],
        &["_rjem_malloc", "_rjem_mallocx", "_rjem_rallocx", "_rjem_sdallocx"],
    ]
    .concat();
    let with_mimalloc = [&own[..], &["mi_malloc_aligned", "mi_realloc_aligned", "mi_free"]].concat();
    for mangled in [false, true] {
        let discovery = in_file(&folder.compile("program", &rust(&own, mangled), &[]));
        assert_eq!(names(&discovery), [AllocatorName::RustGlobal], "{discovery}");
        let realloc = named(&discovery, "__rust_realloc").call;
        let positions = (realloc.pointer, realloc.size).map_both(|argument| argument.position());
        assert_eq!(positions, (0, 3));

        let discovery = in_file(&folder.compile("program", &rust(&with_default, mangled), &[]));
        assert!(discovery.is_empty(), "{discovery}");
        assert!(
            discovery
                .to_string()
                .contains("its Rust allocation functions call malloc"),
            "{discovery}"
        );
    }
    let discovery = in_file(&folder.compile("program", &rust(&with_jemalloc, false), &[]));
    let jemalloc = AllocatorName::Jemalloc {
        prefix: "_rjem_".into(),
    };
    assert_eq!(names(&discovery), [jemalloc], "{discovery}");
    let discovery = in_file(&folder.compile("program", &rust(&with_mimalloc, true), &[]));
    assert_eq!(names(&discovery), [AllocatorName::Mimalloc], "{discovery}");
}

/// Both values of a pair of arguments that must be there.
trait MapBoth<T> {
    fn map_both<U>(self, f: impl Fn(T) -> U) -> (U, U);
}

impl<T> MapBoth<T> for (Option<T>, Option<T>) {
    fn map_both<U>(self, f: impl Fn(T) -> U) -> (U, U) {
        (f(self.0.expect("the first")), f(self.1.expect("the second")))
    }
}

#[test]
fn the_loaders_own_allocator_is_left_alone() {
    let folder = Folder::new("loader");
    let source = "void *malloc(unsigned long n) { return 0; }\nvoid free(void *p) {}\n";
    let options = ["-shared", "-fPIC", "-Wl,-soname,ld-linux-x86-64.so.2"];
    let discovery = in_file(&folder.compile("ld.so", source, &options));
    assert!(discovery.is_empty());
    assert!(
        discovery.to_string().contains("ignored: the dynamic loader"),
        "{discovery}"
    );
}

#[test]
fn an_indirect_function_that_nobody_calls_is_left_out_with_the_reason() {
    let folder = Folder::new("uncalled");
    let source = "static void *real(unsigned long n) { return 0; }\nstatic void *choose(void) { return real; }\n\
        void *malloc(unsigned long n) __attribute__((ifunc(\"choose\")));\nvoid free(void *p) {}\n";
    let discovery = in_file(&folder.compile("lib.so", source, &["-shared", "-fPIC"]));
    assert!(
        discovery
            .to_string()
            .contains("malloc not probed: an indirect function (IFUNC)"),
        "{discovery}"
    );
    assert!(
        discovery.is_empty(),
        "only free is left, and no block is ever seen to be born"
    );
}

#[test]
fn musl_is_told_by_its_marks() {
    let folder = Folder::new("musl");
    let discovery = in_file(&library(
        &folder,
        "void __dls3(void) {}\nvoid *realloc(void *p, unsigned long n) { return (char *)p + n; }\n",
    ));
    assert_eq!(names(&discovery), [AllocatorName::Musl], "{discovery}");
    assert!(!named(&discovery, "realloc").call.zero_size_frees);
}

#[test]
fn an_image_with_malloc_at_thousands_of_addresses_is_not_probed_at_all_of_them() {
    let folder = Folder::new("mallocs");
    let path = library(&folder, "__asm__(\".text\\n.skip 8192, 0x90\");\n");
    let mut bytes = std::fs::read(&path).expect("the library");
    let image = crate::target::elf::ElfImage::parse(bytes.clone()).expect("a library");
    let sections = image.sections();
    let index = sections
        .iter()
        .position(|section| section.name == ".symtab")
        .expect("symbols");
    let mut malloc = None;
    let _problems = image.visit_functions(&mut |function| {
        malloc = malloc.or((function.name == "malloc").then_some(function.address.0));
    });
    let malloc = malloc.expect("malloc");
    let symbols = &bytes[sections[index].offset.0 as usize..][..sections[index].size as usize];
    let is_malloc = |symbol: &&[u8]| symbol[8..16] == malloc.to_le_bytes();
    let symbol = symbols.chunks(24).find(is_malloc).expect("its symbol").to_vec();
    let header = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize + index * 64;
    let (at, size) = (bytes.len() as u64, 4000 * 24u64);
    bytes[header + 24..header + 32].copy_from_slice(&at.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
    for number in 0..4000 {
        let at = bytes.len();
        bytes.extend_from_slice(&symbol);
        bytes[at + 8..at + 16].copy_from_slice(&(malloc - number).to_le_bytes());
    }
    std::fs::write(&path, bytes).expect("the library");
    let discovery = in_file(&path);
    let probed = discovery.functions().count();
    assert!(probed < 500, "{probed} functions");
    let left_out: Vec<_> = discovery.found.iter().flat_map(|found| &found.left_out).collect();
    assert!(
        left_out.iter().any(|left| left.reason.contains("more functions than")),
        "what is not probed is said: {left_out:?}"
    );
}

#[test]
fn more_definitions_than_are_looked_at_are_said_and_none_is_taken_for_all() {
    let folder = Folder::new("too-many");
    let source = |functions: usize| -> String {
        let one = |number| format!("static __attribute__((used)) void q{number:04x}(void) {{}}\n");
        (0..functions).map(one).chain([MAIN.to_owned()]).collect()
    };
    // As many functions as the C file says, all of one name then: no compiler has two in a file.
    let renamed = |functions: usize| {
        let program = folder.compile("program", &source(functions), &[]);
        let mut bytes = std::fs::read(&program).unwrap();
        for at in 0..bytes.len() - 7 {
            let name: &mut [u8] = &mut bytes[at..at + 7];
            if name[..2] == *b"\0q" && name[6] == 0 && name[2..6].iter().all(u8::is_ascii_hexdigit) {
                name[1..].copy_from_slice(b"free\0\0");
            }
        }
        std::fs::write(&program, bytes).unwrap();
        in_file(&program)
    };
    let discovery = renamed(MAX_DEFINITIONS);
    assert_eq!(discovery.overfull(), None, "{discovery}");
    let discovery = renamed(MAX_DEFINITIONS + 1);
    assert!(
        discovery
            .overfull()
            .is_some_and(|module| module.path.ends_with("program")),
        "{discovery}"
    );
    assert!(
        discovery.to_string().contains("defines more than the 4096 functions"),
        "{discovery}"
    );
}
