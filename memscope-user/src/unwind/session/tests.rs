//! What is placed where, and what stays where there is too much.

use super::*;
use memscope_ebpf::unwind::row::RowKind;

const NONE: BTreeSet<ImageKey> = BTreeSet::new();

fn table(rows: usize) -> Arc<UnwindTable> {
    Arc::new(UnwindTable {
        base: ElfAddress(0x1000),
        pages: vec![Page {
            first_row: 0,
            rows: rows as u32,
        }],
        rows: vec![Row::bare(RowKind::Outermost).at(0, 9); rows],
        segments: vec![SegmentPlace {
            offset: FileOffset(0x1000),
            address: ElfAddress(0x1000),
            size: 0x400,
        }],
        coverage: Coverage::default(),
    })
}

fn image(start: u64, key: &str) -> CodeMapping {
    CodeMapping {
        start: RuntimeAddress(start),
        end: RuntimeAddress(start + 0x1000),
        offset: FileOffset(0x1000),
        source: CodeSource::Image(key.to_owned()),
    }
}

#[test]
fn a_refresh_appends_only_what_is_new() {
    let mut layout = Layout::new(10, 10);
    let first = layout.refresh(&[image(0x7000, "a"), image(0x5000, "a")], &NONE, |_| Some(table(3)));
    assert_eq!((first.pages.len(), first.rows.len(), first.mapped), (1, 3, 2));
    assert_eq!(first.mappings.entries[0].start, 0x5000);
    assert_eq!(first.mappings.entries[0].origin, 0x5000);
    let second = layout.refresh(&[image(0x7000, "a"), image(0x9000, "b")], &NONE, |key| {
        assert_eq!(key, "b");
        Some(table(2))
    });
    assert_eq!((second.first_page, second.first_row), (1, 3));
    assert_eq!(second.pages, [Page { first_row: 3, rows: 2 }]);
    assert_eq!(layout.used(), (2, 5));
}

#[test]
fn what_finds_no_room_is_named_and_mapped_without_a_table() {
    let mut layout = Layout::new(10, 4);
    let refresh = layout.refresh(&[image(0x7000, "a"), image(0x9000, "b")], &NONE, |_| Some(table(3)));
    assert_eq!(refresh.without_room, ["b"]);
    assert_eq!(refresh.mappings.entries[1].pages, 0);
    assert_eq!(layout.used(), (1, 3));
}

#[test]
fn the_trampoline_page_begins_a_byte_early() {
    let page = CodeMapping {
        source: CodeSource::Trampoline,
        ..image(0x7000, "")
    };
    let refresh = Layout::new(1, 1).refresh(&[page], &NONE, |_| None);
    let found = refresh.mappings.find(0x6fff).unwrap();
    assert_eq!(found.kind, MappingKind::Trampoline as u32);
}

#[test]
fn neighbouring_code_without_files_is_one_mapping_and_the_rest_is_counted() {
    let bare = |start: u64, size: u64| CodeMapping {
        start: RuntimeAddress(start),
        end: RuntimeAddress(start + size),
        offset: FileOffset(0),
        source: CodeSource::Bare,
    };
    let mut layout = Layout::new(1, 1);
    let joined = layout.refresh(&[bare(0x1000, 0x1000), bare(0x2000, 0x1000)], &NONE, |_| None);
    assert_eq!(joined.mapped, 1);
    let many: Vec<CodeMapping> = (0..MAX_MAPPINGS as u64 + 5).map(|i| bare(i << 16, 0x1000)).collect();
    let refresh = layout.refresh(&many, &NONE, |_| None);
    assert_eq!((refresh.mapped, refresh.left_out.without_table), (MAX_MAPPINGS, 5));
}

#[test]
fn of_too_many_mappings_those_with_tables_and_the_trampolines_stay_wherever_they_are() {
    let mut mappings: Vec<CodeMapping> = (1..=1100)
        .map(|i| CodeMapping {
            start: RuntimeAddress(i << 16),
            end: RuntimeAddress((i << 16) + if i == 1000 { 0x2000 } else { 0x1000 }),
            offset: FileOffset(0),
            source: CodeSource::Bare,
        })
        .collect();
    mappings.push(image(0x7000_0000_0000, "libc"));
    mappings.push(CodeMapping {
        source: CodeSource::Trampoline,
        ..image(0x7fff_0000_0000, "")
    });
    let refresh = Layout::new(1, 9).refresh(&mappings, &NONE, |_| Some(table(3)));
    assert_eq!((refresh.mapped, refresh.left_out.all()), (MAX_MAPPINGS, 78));
    let find = |address: u64| refresh.mappings.find(address);
    assert_eq!(find(0x7000_0000_0000).expect("libc").pages, 1);
    assert_eq!(
        find(0x7fff_0000_0000).expect("a page").kind,
        MappingKind::Trampoline as u32
    );
    assert!(find((1000 << 16) + 0x1000).is_some(), "the larger of the others");
    assert!(find(1 << 16).is_some() && find(1100 << 16).is_none());
}

#[test]
fn of_too_many_mappings_with_tables_those_that_stacks_need_stay_and_the_rest_is_counted_apart() {
    let sized = |start: u64, size: u64, source| CodeMapping {
        start: RuntimeAddress(start),
        end: RuntimeAddress(start + size),
        offset: FileOffset(0x1000),
        source,
    };
    let mut mappings: Vec<CodeMapping> = (1..=1100)
        .map(|i| sized(i << 16, 0x2000, CodeSource::Image(format!("plugin {i}"))))
        .collect();
    mappings.extend((1200..1210).map(|i| sized(i << 16, 0x8000, CodeSource::Bare)));
    mappings.push(sized(0x7000_0000_0000, 0x1000, CodeSource::Image("libc".to_owned())));
    let needed = BTreeSet::from(["libc".to_owned()]);
    let refresh = Layout::new(2000, 2000).refresh(&mappings, &needed, |_| Some(table(1)));
    let libc = refresh.mappings.find(0x7000_0000_0000);
    assert_eq!(libc.expect("the smallest of all, and needed").pages, 1);
    assert_eq!(refresh.mapped, MAX_MAPPINGS);
    assert_eq!(
        refresh.left_out,
        LeftOutMappings {
            with_table: 77,
            without_table: 10,
        }
    );
}

#[test]
fn an_image_without_a_table_is_forgotten_when_it_is_no_longer_mapped() {
    let mut layout = Layout::new(10, 10);
    layout.refresh(&[image(0x5000, "libc")], &NONE, |_| Some(table(1)));
    for number in 0..10 {
        layout.refresh(&[image(0x7000, &format!("made {number}"))], &NONE, |_| None);
    }
    let known: Vec<&str> = layout.placed().map(|(key, _)| key).collect();
    assert_eq!(known, ["libc", "made 9"], "rows in the arrays stay");
}

#[test]
fn tables_are_bounded_by_the_number_of_their_images_and_what_has_none_is_named() {
    let mut layout = Layout::new(1 << 20, 1 << 20);
    let mut refused = Vec::new();
    for looks in 0..=16 {
        let mappings: Vec<CodeMapping> = (0..MOST_IMAGES as u64 / 16)
            .map(|number| image((number + 1) << 16, &format!("{looks} {number}")))
            .collect();
        let refresh = layout.refresh(&mappings, &NONE, |_| Some(table(1)));
        let without = |entry: &&MappingEntry| **entry != MappingEntry::UNUSED && entry.pages == 0;
        assert_eq!(
            refresh.mappings.entries.iter().filter(without).count(),
            refresh.without_room.len()
        );
        refused.extend(refresh.without_room);
    }
    assert_eq!(refused.len(), MOST_IMAGES / 16);
    assert_eq!(layout.room().images, 0);
    assert_eq!(layout.used().0 as usize, MOST_IMAGES);
    layout.refresh(&[], &NONE, |_| None);
    assert_eq!(layout.placed().count(), MOST_IMAGES);
}
