//! Rules read, applied and proposed.

mod compiled;

use std::path::PathBuf;

use super::apply::apply;
use super::builtin::{NotRead, returned};
use super::files::{SuppressionError, load_from};
use super::propose::propose;
use super::rules::{Origin, Rule, parse};
use super::{pattern, render};
use crate::export::samples::{gateway, malloc, modules, own, report, site, whole};
use crate::report::model::SiteId;
use crate::target::address::ElfAddress;
use crate::target::elf::ImageKind;

fn rules(text: &str) -> Vec<Rule> {
    parse(text, &Origin::File(PathBuf::from("/etc/memscope/suppressions"))).unwrap()
}

#[test]
fn comments_blank_lines_and_white_space_are_no_rules() {
    let text = "# known\n\n  leak:foo  \r\n\t# more\nleak:operator new(unsigned long)\nleak:";
    let found: Vec<(String, usize)> = rules(text).into_iter().map(|rule| (rule.pattern, rule.line)).collect();
    assert_eq!(
        found,
        [
            ("foo".to_owned(), 3),
            ("operator new(unsigned long)".to_owned(), 5),
            (String::new(), 6)
        ]
    );
}

#[test]
fn a_line_that_is_no_rule_is_refused_and_named() {
    for text in ["leak:a\nfoo", "leak:a\nrace:b", "leak:a\nLEAK:b", "leak:a\n\x1b[2J"] {
        let error = parse(text, &Origin::Target("gateway".to_owned())).unwrap_err();
        assert_eq!(error.line, 2);
        let said = error.to_string();
        assert!(said.contains("line 2") && said.contains("leak:PATTERN"), "{said}");
        assert!(!said.contains('\x1b'), "{said}");
    }
}

#[test]
fn function_file_and_module_are_matched_and_totals_stay() {
    for (rule, hidden) in [
        ("leak:^keep$", vec![0x11, 0x14]),
        ("leak:Pool<*>::take", vec![0x10]),
        ("leak:gateway.c", vec![0x10, 0x11, 0x13, 0x14]),
        ("leak:/opt/gateway", vec![0x10, 0x11, 0x13, 0x14]),
        ("leak:^libx.so$", vec![0x12]),
        ("leak:libc.so", vec![0x10, 0x11, 0x12, 0x13, 0x14]),
        ("leak:nothing", vec![]),
    ] {
        let report = gateway();
        let before = report.total_live();
        let applied = apply(&rules(rule), &report, &modules());
        let ids: Vec<u64> = applied.sites.keys().map(|id| id.0).collect();
        assert_eq!(ids, hidden, "{rule}");
        assert_eq!(report.total_live(), before);
    }
}

#[test]
fn used_and_unused_rules_are_listed_with_what_they_hide() {
    let applied = apply(
        &rules("leak:^keep$\n# old\nleak:fixed\x1blong ago\nleak:serve"),
        &gateway(),
        &modules(),
    );
    let mut out = Vec::new();
    render::write(&applied, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\
Suppressions used:
    sites    blocks        bytes template
        2       101         6464 ^keep$
        1        40        40000 serve
Suppressions that matched nothing:
  fixed\\x1blong ago (/etc/memscope/suppressions:3)
"
    );
    assert_eq!(applied.hidden().sites, 3);
}

#[test]
fn a_rule_is_proposed_that_hides_no_more_than_it_must() {
    let proposal = |id: u64| propose(&gateway(), SiteId(id), &modules());
    // `malloc` and `main` are in every stack; of the others the innermost is taken.
    assert_eq!(proposal(0x10).unwrap().pattern, "^Pool<int>::take(unsigned long)$");
    assert_eq!(proposal(0x10).unwrap().hidden.sites, 1);
    assert_eq!(
        proposal(0x11).unwrap().hidden.sites,
        2,
        "two lines of one function cannot be told apart"
    );
    assert_eq!(proposal(0x99), None);
    let alone = report(vec![site(1, whole(vec![malloc(), own(0x40_1000, "only", 1)]), 8, 1, 0)]);
    assert_eq!(
        propose(&alone, SiteId(1), &[]).unwrap().pattern,
        "^only$",
        "never the allocator itself"
    );
    assert_eq!(
        propose(&report(vec![site(1, whole(vec![malloc()]), 8, 1, 0)]), SiteId(1), &[]),
        None
    );
    let wrapped = |id: u64, caller: &str| {
        let frames = vec![
            malloc(),
            own(0x40_1000, "xmalloc", 1),
            own(0x40_1100 + id, caller, 2),
            own(0x40_1200, "main", 3),
        ];
        site(id, whole(frames), 8, 10, 0)
    };
    let report = report(vec![wrapped(1, "one"), wrapped(2, "dollar$*"), wrapped(3, "three")]);
    assert_eq!(propose(&report, SiteId(1), &[]).unwrap().pattern, "^one$");
    let dollar = propose(&report, SiteId(2), &[]).unwrap();
    assert!(pattern::matches(&dollar.pattern, "dollar$*"), "{}", dollar.pattern);
    assert_eq!(dollar.hidden.sites, 1);
}

#[test]
fn default_files_may_be_missing_and_named_ones_may_not() {
    let scratch = tempfile::tempdir().unwrap();
    let (there, missing) = (scratch.path().join("there"), scratch.path().join("missing"));
    std::fs::write(&there, "leak:a\n").unwrap();
    let defaults = [there.clone(), missing.clone()];
    assert_eq!(load_from(&defaults, std::slice::from_ref(&there)).unwrap().len(), 2);
    assert!(matches!(load_from(&[], &[missing]), Err(SuppressionError::Io { .. })));
    let folder = scratch.path().to_owned();
    assert!(matches!(load_from(&[folder], &[]), Err(SuppressionError::Io { .. })));
    std::fs::write(&there, "nonsense").unwrap();
    assert!(matches!(load_from(&[there], &[]), Err(SuppressionError::NoRule(_))));
}

#[test]
fn only_a_plain_return_of_a_constant_is_followed() {
    let at = ElfAddress(0x1000);
    let (fixed, anywhere) = (ImageKind::FixedAddress, ImageKind::PositionIndependent);
    // endbr64; lea rax,[rip+0x10]; ret
    let optimised = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0xc3];
    assert_eq!(returned(&optimised, at, anywhere), Ok(ElfAddress(0x1000 + 11 + 0x10)));
    // push rbp; mov rbp,rsp; lea rax,[rip+0x10]; pop rbp; ret
    let plain = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0x5d, 0xc3];
    assert_eq!(returned(&plain, at, anywhere), Ok(ElfAddress(0x1000 + 11 + 0x10)));
    // mov eax,0x402010; ret
    let absolute = [0xb8, 0x10, 0x20, 0x40, 0, 0xc3];
    assert_eq!(returned(&absolute, at, fixed), Ok(ElfAddress(0x40_2010)));
    for (code, kind) in [
        (&absolute[..], anywhere),
        // mov rax,[rip+0x10]; ret: what the pointer holds is known only at run time.
        (&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0xc3], anywhere),
        // call; ret
        (&[0xe8, 0, 0, 0, 0, 0xc3], anywhere),
        // jmp
        (&[0xe9, 0, 0, 0, 0], anywhere),
        // ret alone
        (&[0xc3], anywhere),
        (&[0x06], anywhere),
    ] {
        assert!(
            matches!(returned(code, at, kind), Err(NotRead::Computes(_))),
            "{code:x?}"
        );
    }
    assert!(returned(&optimised[..8], at, anywhere).is_err());
    assert!(matches!(returned(&[], at, anywhere), Err(NotRead::NotInFile(_))));
}
