//! The build id, out of an image's notes.

use object::LittleEndian as LE;
use object::elf::{ELF_NOTE_GNU, NT_GNU_BUILD_ID, NoteHeader64};
use object::pod;

use crate::target::address::BuildId;

/// The most of a note section or segment that is looked at: build ids stand in the first hundred bytes.
pub(super) const MAX_NOTES: u64 = 1 << 20;

/// The GNU build id among these notes. `align` is the section's or segment's alignment: names and descriptors are
/// padded to 4, and to 8 in a part aligned so (the gABI's 8 for all 64-bit notes was never practised).
pub(super) fn build_id(notes: &[u8], align: u64) -> Option<BuildId> {
    let pad = if align == 8 { 8 } else { 4 };
    let mut rest = notes;
    loop {
        let (header, body) = pod::from_bytes::<NoteHeader64<LE>>(rest).ok()?;
        let name_size = header.n_namesz.get(LE) as usize;
        let text_size = header.n_descsz.get(LE) as usize;
        let name = body.get(..name_size)?;
        // Offsets count from the note's start; its header is 12 bytes, which is no multiple of 8.
        let text_at = (12 + name_size).next_multiple_of(pad) - 12;
        let text = body.get(text_at..)?.get(..text_size)?;
        let is_gnu = name.strip_suffix(b"\0").unwrap_or(name) == ELF_NOTE_GNU;
        if is_gnu && header.n_type.get(LE) == NT_GNU_BUILD_ID {
            return BuildId::from_bytes(text);
        }
        let next = (12 + text_at + text_size).next_multiple_of(pad);
        rest = rest.get(next..)?;
    }
}
