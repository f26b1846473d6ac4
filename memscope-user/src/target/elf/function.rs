//! Function symbols: one walk over every table that names functions, holding one table at a time.

use object::LittleEndian as LE;
use object::elf::{self, SHT_DYNSYM, SHT_SYMTAB, Sym64};
use object::pod;

use super::bytes::Checked;
use super::dynamic::Dynamic;
use super::section::Section;
use super::{ElfError, text_at};
use crate::target::address::{ElfAddress, FileOffset};

/// The most symbols of one table that are looked at; the largest browsers have about a million.
const MAX_SYMBOLS: u64 = 4 << 20;

/// Longer names (deep C++ templates have them) are passed over: no allocator's is.
pub(super) const MAX_NAME: usize = 2048;

/// What kind of function a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FunctionKind {
    /// The code at the address is the function (`STT_FUNC`).
    Direct,
    /// The code at the address chooses the function when the program is loaded (`STT_GNU_IFUNC`).
    Indirect,
}

/// Where a symbol was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymbolTable {
    /// `.dynsym`: what the loader sees.
    Dynamic,
    /// `.symtab`: what `strip` removes.
    Full,
    /// `.symtab` of the compressed image in `.gnu_debugdata`.
    MiniDebug,
    /// `.symtab` of a separate debug file with the same build id.
    DebugFile,
}

/// A function the image defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its linker name, without a version suffix (`@GLIBC_2.2.5`).
    pub name: &'a str,
    /// Its address, or its resolver's.
    pub address: ElfAddress,
    /// Bytes of code; 0 when the symbol does not say (hand-written assembly).
    pub size: u64,
    /// Whether the address is the function or its resolver.
    pub kind: FunctionKind,
    /// Not visible outside its image (`STB_LOCAL`): nothing is interposed by it.
    pub local: bool,
    /// The table that names it.
    pub table: SymbolTable,
}

/// One symbol table and its strings, not yet read.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableAt {
    pub(super) table: SymbolTable,
    symbols: (FileOffset, u64),
    strings: (FileOffset, u64),
}

/// The tables an image has, by its sections, or by its dynamic section when it has no sections. The format allows one of
/// each kind (gABI, "Sections"); of more only the first is taken, lest a section table repeats one without end.
pub(super) fn tables(sections: &[Section], dynamic: &Dynamic, full: SymbolTable) -> Vec<TableAt> {
    let first_of = |kind: u32, table: SymbolTable| {
        let section = sections
            .iter()
            .find(|section| section.kind == kind && !section.absent && !section.compressed)?;
        let strings = sections.get(section.link)?;
        Some(TableAt {
            table,
            symbols: (section.offset, section.size),
            strings: (strings.offset, strings.size),
        })
    };
    let dynamic_table = first_of(SHT_DYNSYM.0, SymbolTable::Dynamic);
    let mut tables: Vec<_> = dynamic_table.into_iter().chain(first_of(SHT_SYMTAB.0, full)).collect();
    if !tables.iter().any(|table| table.table == SymbolTable::Dynamic)
        && let (Some(symbols), Some(strings)) = (dynamic.symbols, dynamic.strings)
    {
        tables.push(TableAt {
            table: SymbolTable::Dynamic,
            symbols: (symbols.offset, symbols.size),
            strings: (strings.offset, strings.size),
        });
    }
    tables
}

impl TableAt {
    /// Gives every defined function of the table to `visit`. Symbols whose names are not UTF-8 or have no end are
    /// passed over: no allocator is named so.
    pub(super) fn visit(&self, bytes: &Checked, visit: &mut dyn FnMut(Function<'_>)) -> Result<(), ElfError> {
        let entry = size_of::<Sym64<LE>>() as u64;
        let (at, size) = self.symbols;
        if size / entry > MAX_SYMBOLS {
            return Err(ElfError::TooLarge {
                what: "a symbol table",
                size,
                limit: MAX_SYMBOLS * entry,
            });
        }
        let raw = bytes.read("a symbol table", at, size - size % entry)?;
        let symbols = pod::slice_from_all_bytes::<Sym64<LE>>(&raw).map_err(|()| ElfError::Malformed("symbol table"))?;
        let strings = bytes.read("the symbol names", self.strings.0, self.strings.1)?;
        for symbol in symbols {
            let kind = match symbol.st_type() {
                elf::STT_FUNC => FunctionKind::Direct,
                elf::STT_GNU_IFUNC => FunctionKind::Indirect,
                _ => continue,
            };
            // An import may carry an address: its PLT entry, in programs that compare function pointers.
            if symbol.st_shndx.get(LE) == elf::SHN_UNDEF || symbol.st_value.get(LE) == 0 {
                continue;
            }
            let name = text_at(&strings, symbol.st_name.get(LE), MAX_NAME);
            let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else {
                continue;
            };
            visit(Function {
                name: name.split_once('@').map_or(name, |(name, _version)| name),
                address: ElfAddress(symbol.st_value.get(LE)),
                size: symbol.st_size.get(LE),
                kind,
                local: symbol.st_bind() == elf::STB_LOCAL,
                table: self.table,
            });
        }
        Ok(())
    }
}
