//! The catalogue's rows say what the manuals say.

use std::collections::BTreeMap;

use super::*;

fn role(name: &str) -> Role {
    let tables = [C, JEMALLOC, OPERATORS, TCMALLOC, MIMALLOC, RUST];
    let found = tables
        .iter()
        .flat_map(|table| table.iter())
        .find(|entry| entry.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the catalogue")).role
}

#[test]
fn every_row_survives_the_cookie() {
    for entry in [C, JEMALLOC, OPERATORS, TCMALLOC, MIMALLOC, RUST].concat() {
        let spec = entry.role.to_spec(true, CallIndex(7));
        assert_eq!(CallSpec::from_cookie(spec.to_cookie()), Some(spec), "{}", entry.name);
        assert_eq!(
            entry.role.pointer.is_some(),
            entry.role.kind != CallKind::Alloc,
            "{}",
            entry.name
        );
        assert!(
            entry.role.count.is_none() || entry.role.size.is_some(),
            "{}",
            entry.name
        );
        assert_eq!(
            spec.zero_size_frees,
            entry.role.kind == CallKind::Realloc,
            "{}: only a realloc frees by size 0",
            entry.name
        );
    }
}

#[test]
fn a_name_has_one_role_in_all_tables() {
    let mut seen = BTreeMap::new();
    for entry in [C, JEMALLOC, OPERATORS, TCMALLOC, MIMALLOC, RUST].concat() {
        let role = *seen.entry(entry.name).or_insert(entry.role);
        assert_eq!(role, entry.role, "{}", entry.name);
    }
}

#[test]
fn argument_positions_are_those_of_the_manuals() {
    let position = |argument: Option<Argument>| argument.map(Argument::position);
    let of = |name| {
        let role = role(name);
        (position(role.pointer), position(role.count), position(role.size))
    };
    assert_eq!(of("calloc"), (None, Some(0), Some(1)));
    assert_eq!(of("reallocarray"), (Some(0), Some(1), Some(2)));
    assert_eq!(of("posix_memalign"), (None, None, Some(2)));
    assert_eq!(of("aligned_alloc"), (None, None, Some(1)));
    assert_eq!(of("_ZnwmSt11align_val_t"), (None, None, Some(0)));
    assert_eq!(of("xallocx"), (Some(0), None, Some(1)));
    assert_eq!(of("mi_heap_reallocn"), (Some(1), Some(2), Some(3)));
    assert_eq!(of("__rust_realloc"), (Some(0), None, Some(3)));
    assert_eq!(of("mi_strdup"), (None, None, None));
    assert_eq!(
        role("posix_memalign").result,
        CallResult::Stored(Argument::new(0).expect("rdi"))
    );
    assert_eq!(role("free").result, CallResult::Nothing);
}

#[test]
fn roles_know_whether_blocks_are_born_or_end() {
    assert!(role("realloc").may_free() && role("realloc").may_allocate());
    assert!(role("free").may_free() && !role("free").may_allocate());
    assert!(!role("xallocx").may_free() && !role("xallocx").may_allocate());
}
