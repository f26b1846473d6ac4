//! Specifications as users write them, rightly and wrongly.

mod resolved;

use memscope_ebpf::call::{Argument, CallKind, CallResult};

use super::*;

fn at(position: u8) -> Option<Argument> {
    Argument::new(position)
}

fn parsed(kind: SpecKind, text: &str) -> CustomSpec {
    CustomSpec::parse(kind, text).unwrap_or_else(|error| panic!("{error}"))
}

/// The message, and the text from the caret on.
fn refused(kind: SpecKind, text: &str) -> (String, String) {
    match CustomSpec::parse(kind, text) {
        Ok(spec) => panic!("{text} was taken for {spec:?}"),
        Err(error) => (error.message.clone(), text.chars().skip(error.column).collect()),
    }
}

#[test]
fn the_old_systems_own_layers() {
    let spec = parsed(SpecKind::Alloc, "zOsMem_Alloc(size=1) -> ret");
    assert_eq!(
        spec.place,
        Place::Name {
            module: None,
            function: "zOsMem_Alloc".into()
        }
    );
    assert_eq!(spec.role.size, at(1));
    assert_eq!(
        (spec.role.kind, spec.role.result),
        (CallKind::Alloc, CallResult::Returned)
    );

    let spec = parsed(SpecKind::Alloc, " libpool.so:pool_get ( count = 1 , size = 2 )->*3 ");
    assert_eq!(
        spec.place,
        Place::Name {
            module: Some("libpool.so".into()),
            function: "pool_get".into()
        }
    );
    assert_eq!((spec.role.count, spec.role.size), (at(1), at(2)));
    assert_eq!(Some(spec.role.result), at(3).map(CallResult::Stored));

    let spec = parsed(SpecKind::Free, "zOsMem_Free(ptr=0)");
    assert_eq!((spec.role.kind, spec.role.pointer), (CallKind::Free, at(0)));
    assert_eq!(spec.role.result, CallResult::Nothing);

    let spec = parsed(SpecKind::Realloc, "name(ptr=0,size=1) -> ret");
    assert_eq!(
        (spec.role.kind, spec.role.pointer, spec.role.size),
        (CallKind::Realloc, at(0), at(1))
    );
}

#[test]
fn a_place_in_a_module_whose_name_has_a_plus() {
    let spec = parsed(SpecKind::Alloc, "libstdc++.so.6+0x9a0f0(size=0) -> ret");
    assert_eq!(
        spec.place,
        Place::Offset {
            module: "libstdc++.so.6".into(),
            offset: FileOffset(0x9a0f0)
        }
    );
    let spec = parsed(SpecKind::Free, "libstdc++.so.6:_ZdlPv(ptr=0)");
    assert!(matches!(spec.place, Place::Name { module: Some(module), .. } if module == "libstdc++.so.6"));
}

#[test]
fn a_path_with_parentheses_is_a_module() {
    let spec = parsed(SpecKind::Free, "/opt/a (old)/libp.so:put(ptr=5)");
    assert!(matches!(spec.place, Place::Name { module: Some(module), .. } if module == "/opt/a (old)/libp.so"));
}

#[test]
fn a_block_of_unknown_size_is_allowed() {
    assert_eq!(parsed(SpecKind::Alloc, "node_new() -> ret").role.size, None);
}

#[test]
fn errors_point_at_the_character() {
    for (kind, text, from_caret, message) in [
        (SpecKind::Alloc, "f(size=6) -> ret", "6) -> ret", "0 to 5"),
        (
            SpecKind::Alloc,
            "f(size=99999999999) -> ret",
            "99999999999) -> ret",
            "0 to 5",
        ),
        (SpecKind::Alloc, "f(sise=0) -> ret", "sise=0) -> ret", "size, count"),
        (SpecKind::Alloc, "f(ptr=0) -> ret", "ptr=0) -> ret", "size, count"),
        (SpecKind::Free, "f(size=0)", "size=0)", "one of ptr"),
        (SpecKind::Alloc, "f(size 0) -> ret", "0) -> ret", "`=`"),
        (SpecKind::Alloc, "f(size=) -> ret", ") -> ret", "position is missing"),
        (SpecKind::Alloc, "f(size=0", "", "`,` or `)`"),
        (SpecKind::Alloc, "f(size=0,size=1) -> ret", "size=1) -> ret", "twice"),
        (SpecKind::Alloc, "f(count=0) -> ret", ") -> ret", "a count needs a size"),
        (SpecKind::Alloc, "f(size=0)", "", "how the block comes back"),
        (SpecKind::Alloc, "f(size=0) -> ptr", "ptr", "`ret`"),
        (SpecKind::Alloc, "f(size=0) -> *7", "7", "0 to 5"),
        (SpecKind::Alloc, "f(size=0) -> ret x", "x", "nothing may follow"),
        (SpecKind::Free, "f(ptr=0) -> ret", "ret", "no block"),
        (SpecKind::Free, "f()", ")", "ptr="),
        (SpecKind::Realloc, "f(size=1) -> ret", ") -> ret", "ptr="),
        (SpecKind::Realloc, "f(ptr=0,size=1) -> *2", "*2", "only `-> ret`"),
        (
            SpecKind::Alloc,
            "(size=0) -> ret",
            "(size=0) -> ret",
            "function name is missing",
        ),
        (SpecKind::Alloc, "", "", "argument list is missing"),
        (SpecKind::Alloc, "malloc", "", "argument list is missing"),
        (
            SpecKind::Alloc,
            "ns::f(size=0) -> ret",
            "::f(size=0) -> ret",
            "linker name",
        ),
        (
            SpecKind::Alloc,
            "lib.so:(size=0) -> ret",
            "(size=0) -> ret",
            "function name is missing",
        ),
        (
            SpecKind::Alloc,
            ":f(size=0) -> ret",
            ":f(size=0) -> ret",
            "module name is missing",
        ),
        (
            SpecKind::Alloc,
            "a b(size=0) -> ret",
            " b(size=0) -> ret",
            "cannot be part",
        ),
        (
            SpecKind::Alloc,
            "lib+12(size=0) -> ret",
            "12(size=0) -> ret",
            "hexadecimal",
        ),
        (
            SpecKind::Alloc,
            "lib+0xg(size=0) -> ret",
            "0xg(size=0) -> ret",
            "no hexadecimal",
        ),
        (
            SpecKind::Alloc,
            "lib+0x+1(size=0) -> ret",
            "1(size=0) -> ret",
            "hexadecimal",
        ),
        (SpecKind::Alloc, "é(größe=0) -> ret", "größe=0) -> ret", "size, count"),
    ] {
        let (said, rest) = refused(kind, text);
        assert!(said.contains(message), "{text}: {said}");
        assert_eq!(rest, from_caret, "{text}: {said}");
    }
}

#[test]
fn the_caret_stands_under_the_character() {
    let error = CustomSpec::parse(SpecKind::Alloc, "é(größe=0) -> ret").expect_err("no such argument");
    assert_eq!(
        error.to_string(),
        "here one of size, count is needed\n  é(größe=0) -> ret\n    ^"
    );
}

#[test]
fn no_text_makes_the_parser_panic() {
    // A fixed seed: every prefix and every single change of a character of good specifications.
    let good = "libpool.so:pool_get(count=1,size=2) -> *3";
    let odd = [
        '(',
        ')',
        ':',
        '+',
        '*',
        '-',
        '>',
        '=',
        ',',
        ' ',
        '0',
        'é',
        '\0',
        '\u{1f600}',
    ];
    for kind in [SpecKind::Alloc, SpecKind::Free, SpecKind::Realloc] {
        for (byte, _) in good.char_indices() {
            let _refused_or_not = CustomSpec::parse(kind, &good[..byte]);
            for c in odd {
                let changed = format!("{}{c}{}", &good[..byte], &good[byte + 1..]);
                if let Err(error) = CustomSpec::parse(kind, &changed) {
                    assert!(error.column <= changed.chars().count(), "{changed}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_file_holds_the_same_texts() {
    let file = "alloc = [\"zOsMem_Alloc(size=1) -> ret\", 'p.so:get() -> *0']\nfree = ['zOsMem_Free(ptr=0)']\n";
    let specs = parse_file(file).expect("a good file");
    assert_eq!(specs.len(), 3);
    assert_eq!(specs[0], parsed(SpecKind::Alloc, "zOsMem_Alloc(size=1) -> ret"));
    assert_eq!(specs[2], parsed(SpecKind::Free, "zOsMem_Free(ptr=0)"));
    assert_eq!(parse_file("").expect("an empty file"), []);
}

#[test]
fn a_file_says_which_line_is_wrong() {
    let error = parse_file("alloc = [\n  'f(size=0) -> ret',\n  'g(size=9) -> ret',\n]\n").expect_err("argument 9");
    let text = error.to_string();
    assert!(
        text.starts_with("allocators file, line 3: only the first six arguments"),
        "{text}"
    );
    assert!(text.ends_with("\n  g(size=9) -> ret\n         ^"), "{text}");

    let text = parse_file("allok = []").expect_err("no such list").to_string();
    assert!(text.contains("allok"), "{text}");
    assert!(parse_file("alloc = [3]").is_err());
    assert!(read_file(std::path::Path::new("/nonexistent/file")).is_err());
}
