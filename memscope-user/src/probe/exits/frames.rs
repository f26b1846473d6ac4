//! The functions of an image and the tables of where they catch exceptions, from its call frame information.

use gimli::{BaseAddresses, EhFrame, EndianSlice, LittleEndian, Pointer};

use super::obstacle::ExitObstacle;
use crate::target::address::ElfAddress;
use crate::target::elf::ElfImage;
use crate::unwind::entries;

/// Functions that are read of one image; the largest browsers have some million.
const MOST_FRAMES: usize = 1 << 21;

/// One function, or a part of one that lies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its first address.
    pub start: ElfAddress,
    /// The first past it.
    pub end: ElfAddress,
    /// Its table of call sites and landing pads (the LSDA), if it has one.
    pub catch_table: Option<ElfAddress>,
}

/// The functions of an image, by address.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<Frame>);

impl Frames {
    /// Reads `.eh_frame`.
    ///
    /// # Errors
    /// It is not there or cannot be read to its end: a function in what is missing may catch exceptions.
    pub fn read(image: &ElfImage) -> Result<Self, ExitObstacle> {
        let unreadable = |why: &dyn std::fmt::Display| ExitObstacle::NoCatchTable { why: why.to_string() };
        let section = image
            .section(".eh_frame")
            .ok_or_else(|| unreadable(&"the image has no .eh_frame"))?;
        let bytes = image.section_bytes(section).map_err(|error| unreadable(&error))?;
        let address_of = |name: &str| image.section(name).map_or(0, |section| section.address.0);
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address.0)
            .set_text(address_of(".text"))
            .set_got(address_of(".got"));
        let mut section = EhFrame::from(EndianSlice::new(&bytes, LittleEndian));
        section.set_address_size(8);
        let mut frames = Vec::new();
        entries::visit(&section, &bytes, &bases, |fde| {
            let fde = fde.map_err(|error| unreadable(&error))?;
            if frames.len() == MOST_FRAMES {
                return Err(unreadable(&"the image has too many functions"));
            }
            let catch_table = match fde.lsda() {
                None => None,
                Some(Pointer::Direct(address)) => Some(ElfAddress(address)),
                Some(Pointer::Indirect(_)) => return Err(unreadable(&"its address is kept elsewhere")),
            };
            frames.push(Frame {
                start: ElfAddress(fde.initial_address()),
                end: ElfAddress(fde.end_address()),
                catch_table,
            });
            Ok(())
        })?;
        frames.sort_unstable_by_key(|frame| frame.start);
        Ok(Self(frames))
    }

    /// The function that the address belongs to.
    #[must_use]
    pub fn at(&self, address: ElfAddress) -> Option<&Frame> {
        let before = self.0.partition_point(|frame| frame.start <= address);
        self.0.get(before.checked_sub(1)?).filter(|frame| address < frame.end)
    }
}

#[cfg(test)]
impl FromIterator<Frame> for Frames {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        Self(frames.into_iter().collect())
    }
}
