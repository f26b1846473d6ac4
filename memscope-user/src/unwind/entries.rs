//! The entries of a call frame section, one after the other. The bytes are hostile: time is bounded by their number.

use std::collections::HashMap;
use std::hash::Hash;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, Error, FrameDescriptionEntry, UnwindOffset, UnwindSection,
};

use super::rule::Bytes;

/// A CIE's instructions are run again for each of its FDEs; real ones are 30 bytes long.
pub const MAX_CIE_BYTES: usize = 1 << 10;
/// CIEs remembered; further ones are parsed again for each FDE, which costs no more than the FDE itself.
const MAX_CIES: usize = 1 << 12;

/// Has each FDE visited, in the order of the section, with those that cannot be parsed. One whose length cannot be read is the
/// last: without it there is no finding the next.
///
/// # Errors
/// The visitor's, which ends it.
pub fn visit<'data, S, E>(
    section: &S,
    bytes: &[u8],
    bases: &BaseAddresses,
    mut visitor: impl FnMut(gimli::Result<FrameDescriptionEntry<Bytes<'data>>>) -> Result<(), E>,
) -> Result<(), E>
where
    S: UnwindSection<Bytes<'data>>,
    S::Offset: Hash,
{
    let mut cies: HashMap<S::Offset, CommonInformationEntry<Bytes<'data>>> = HashMap::new();
    let mut entries = section.entries(bases);
    loop {
        let partial = match entries.next() {
            Ok(Some(CieOrFde::Fde(partial))) => partial,
            Ok(Some(CieOrFde::Cie(_))) => continue,
            Ok(None) => return Ok(()),
            Err(error) => return visitor(Err(error)),
        };
        let parsed = partial.parse(|section, bases, offset| {
            if let Some(cie) = cies.get(&offset) {
                return Ok(cie.clone());
            }
            let cie = short_cie(section, bytes, bases, offset)?;
            if cies.len() < MAX_CIES {
                cies.insert(offset, cie.clone());
            }
            Ok(cie)
        });
        visitor(parsed)?;
    }
}

/// The CIE at an offset, if it is no longer than one may be: parsing alone may take as long as the entry is.
///
/// # Errors
/// It is longer, or cannot be parsed.
pub fn short_cie<'data, S>(
    section: &S,
    bytes: &[u8],
    bases: &BaseAddresses,
    offset: S::Offset,
) -> gimli::Result<CommonInformationEntry<Bytes<'data>>>
where
    S: UnwindSection<Bytes<'data>>,
{
    if entry_length(bytes, UnwindOffset::into(offset)).is_none_or(|length| length > MAX_CIE_BYTES) {
        return Err(Error::UnexpectedEof(gimli::ReaderOffsetId(0)));
    }
    section.cie_from_offset(bases, offset)
}

/// The length that the entry at an offset states, in the 32-bit or the 64-bit form.
fn entry_length(section: &[u8], offset: usize) -> Option<usize> {
    let (short, rest) = section.get(offset..)?.split_first_chunk()?;
    let length = match u32::from_le_bytes(*short) {
        0xffff_ffff => u64::from_le_bytes(*rest.first_chunk()?),
        length => u64::from(length),
    };
    usize::try_from(length).ok()
}
