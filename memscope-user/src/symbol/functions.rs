//! A symbol table of our own reading, for images that blazesym refuses: those whose symbols are in `.gnu_debugdata`.

use crate::target::address::ElfAddress;
use crate::target::elf::{ElfImage, SymbolTable};

/// The functions of one image by address. Names are kept in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Functions {
    by_address: Vec<Place>,
    names: String,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: u64,
    size: u64,
    /// In `names`.
    name: (usize, usize),
    table: SymbolTable,
}

/// How far back a function is searched whose code may enclose others' symbols.
const ENCLOSING_LIMIT: usize = 16;

impl Functions {
    pub(super) fn of(image: &ElfImage) -> Self {
        let mut functions = Self::default();
        // What cannot be read of one table leaves the others.
        let _unreadable = image.visit_functions(&mut |function| {
            let start = functions.names.len();
            functions.names.push_str(function.name);
            functions.by_address.push(Place {
                address: function.address.0,
                size: function.size,
                name: (start, functions.names.len()),
                table: function.table,
            });
        });
        // Of several names of one place, the one with the largest extent, then the first of the fullest table.
        functions
            .by_address
            .sort_by_key(|place| (place.address, place.size, place.table));
        functions
    }

    /// The function whose code the address is in, and where it begins. A function without a size is known only by its
    /// first byte: what follows may be anyone's.
    pub(super) fn at(&self, address: ElfAddress) -> Option<(&str, ElfAddress)> {
        let end = self.by_address.partition_point(|place| place.address <= address.0);
        let places = self.by_address.get(..end)?.iter().rev().take(ENCLOSING_LIMIT);
        let place = places
            .into_iter()
            .find(|place| address.0 - place.address < place.size.max(1))?;
        Some((self.names.get(place.name.0..place.name.1)?, ElfAddress(place.address)))
    }
}
