//! From an address to its row: mapping, page, rows. The slow path behind the rule cache.

use super::bounded::less;
use super::mapping::{MappingEntry, MappingKind};
use super::row::{PAGE_BYTES, Page, Row, RowKind};

/// The flat tables of a session.
pub trait Tables {
    /// The mapping that covers an address.
    fn mapping(&self, address: u64) -> Option<&MappingEntry>;
    /// An element of PAGES.
    fn page(&self, index: u32) -> Option<Page>;
    /// An element of ROWS.
    fn row(&self, index: u32) -> Option<Row>;
}

/// The row for an address, or the made-up row that says why there is none.
///
/// Not inlined for BPF: the verifier would follow it once for each way into it.
#[must_use]
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
pub fn find_row<T: Tables>(tables: &T, address: u64) -> Row {
    let Some(mapping) = tables.mapping(address) else {
        return Row::bare(RowKind::NoMapping);
    };
    if mapping.kind == MappingKind::Trampoline as u32 {
        return Row::bare(RowKind::Trampoline);
    }
    if mapping.pages == 0 {
        return Row::bare(RowKind::NoTable);
    }
    let in_page = address.wrapping_sub(mapping.origin) & (PAGE_BYTES - 1);
    match mapping.page_of(address).and_then(|index| tables.page(index)) {
        Some(page) => find_in_page(tables, page, in_page),
        None => Row::GAP,
    }
}

/// Ten halvings without a branch. A probe past the page's rows looks at the first row instead and is not taken.
#[inline(always)]
fn find_in_page<T: Tables>(tables: &T, page: Page, in_page: u64) -> Row {
    let mut position = 0u32;
    let mut shift = PAGE_BYTES.trailing_zeros();
    while shift > 0 {
        shift -= 1;
        let probe = position + (1 << shift);
        let inside = less(u64::from(probe), u64::from(page.rows)) as u32;
        let Some(row) = tables.row(page.first_row.wrapping_add(probe * inside)) else {
            return Row::GAP;
        };
        let taken = less(row.first(), in_page + 1) as u32 & inside;
        position += taken << shift;
    }
    if page.rows == 0 {
        return Row::GAP;
    }
    match tables.row(page.first_row.wrapping_add(position)) {
        Some(row) if row.first() <= in_page && in_page <= row.last() => row,
        _ => Row::GAP,
    }
}
