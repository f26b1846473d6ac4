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

/// Bytes of names kept; those of the largest browsers fit. Symbols may share one name in the file, not here.
const MOST_NAMES: usize = 256 << 20;

/// How far back a function is searched whose code may enclose others' symbols.
const ENCLOSING_LIMIT: usize = 16;

impl Functions {
    pub(super) fn of(image: &ElfImage) -> Self {
        let mut functions = Self::default();
        // What cannot be read of one table leaves the others.
        let _unreadable = image.visit_functions(&mut |function| {
            let start = functions.names.len();
            if start + function.name.len() > MOST_NAMES {
                return;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::compiled::Folder;

    #[test]
    fn a_long_name_shared_by_many_symbols_is_not_kept_once_a_symbol() {
        let folder = Folder::new("shared-name");
        let name = "n".repeat(2000);
        let source = format!("int {name}(void) {{ return 0; }}\n");
        let mut bytes = std::fs::read(folder.compile("lib.so", &source, &["-shared", "-fPIC"])).expect("the library");
        let image = ElfImage::parse(bytes.clone()).expect("a library");
        let index = image
            .sections()
            .iter()
            .position(|section| section.name == ".symtab")
            .expect("symbols");
        let table = image.sections()[index].clone();
        let symbols = &bytes[table.offset.0 as usize..][..table.size as usize];
        let mut address = None;
        let _problems = image.visit_functions(&mut |function| {
            address = address.or((function.name == name).then_some(function.address.0));
        });
        let address = address.expect("the function").to_le_bytes();
        let symbol = symbols
            .chunks(24)
            .find(|symbol| symbol[8..16] == address)
            .expect("its symbol");
        let many = symbol.repeat(300_000);
        let header = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize + index * 64;
        let (at, size) = (bytes.len() as u64, many.len() as u64);
        bytes[header + 24..header + 32].copy_from_slice(&at.to_le_bytes());
        bytes[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
        bytes.extend(many);
        let functions = Functions::of(&ElfImage::parse(bytes).expect("its headers are good"));
        assert!(
            functions.names.len() <= MOST_NAMES,
            "{} bytes of names",
            functions.names.len()
        );
        let address = ElfAddress(u64::from_le_bytes(address));
        assert_eq!(functions.at(address), Some((name.as_str(), address)));
    }
}
