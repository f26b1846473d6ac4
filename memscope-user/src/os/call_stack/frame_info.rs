//! Call frame information of one image: from a frame's registers to its caller's. The bytes are the target's: hostile.

use std::cell::OnceCell;

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, Expression,
    FrameDescriptionEntry, LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, Value,
};
use memscope_ebpf::site::StackEnd;

use super::entry_index::EntryIndex;
use super::registers::{RBP, RIP, RSP, Registers};
use super::walk::WalkEnd;
use crate::target::address::{ElfAddress, RuntimeAddress};
use crate::target::elf::ElfImage;
use crate::target::memory::TargetMemory;
use crate::unwind::entries;
use crate::unwind::image::{CodeImage, FrameSection};

type Bytes<'data> = EndianSlice<'data, LittleEndian>;

/// Operations of one expression; compilers and hand-written code use some twenty.
const MAX_OPERATIONS: u32 = 1000;

const ENCODING: gimli::Encoding = gimli::Encoding {
    address_size: 8,
    format: gimli::Format::Dwarf32,
    version: 4,
};

/// The instructions of an entry are run up to the address looked for: the longest whose are. Compilers reach some ten
/// thousand.
const MAX_ENTRY_BYTES: usize = 1 << 18;

/// A section's bytes and its address in the image.
#[derive(Default)]
struct Piece {
    address: u64,
    bytes: Vec<u8>,
    /// Its entries, listed when first one is looked for.
    index: OnceCell<EntryIndex>,
}

/// The sections of one image that unwinding reads.
#[derive(Default)]
pub struct FrameInfo {
    eh_frame: Option<Piece>,
    eh_frame_header: Option<Piece>,
    debug_frame: Option<Piece>,
    text: u64,
    got: u64,
}

/// A caller.
pub struct Caller {
    /// Its registers.
    pub registers: Registers,
    /// The frame left was a signal's: the program counter is the interrupted instruction, not a return address.
    pub by_signal: bool,
}

/// What a rule may look at.
struct Frame<'a> {
    registers: &'a Registers,
    memory: &'a dyn TargetMemory,
    bias: u64,
}

impl FrameInfo {
    /// Of an image. One whose sections cannot be read has none.
    pub fn of_image(image: &ElfImage) -> Self {
        let piece = |name: &str| {
            let section = image.section(name).filter(|section| !section.absent)?;
            let bytes = image.section_bytes(section).ok().filter(|bytes| !bytes.is_empty())?;
            Some(Piece {
                address: section.address.0,
                bytes,
                ..Piece::default()
            })
        };
        let address = |name: &str| image.section(name).map_or(0, |section| section.address.0);
        Self {
            eh_frame: piece(".eh_frame"),
            eh_frame_header: piece(".eh_frame_hdr"),
            debug_frame: piece(".debug_frame"),
            text: address(".text"),
            got: address(".got"),
        }
    }

    /// Of an image without section headers, from the bytes of its whole file.
    pub fn of_file(bytes: &[u8]) -> Self {
        let Ok(image) = CodeImage::parse(bytes) else {
            return Self::default();
        };
        let piece = |section: FrameSection<'_>| Piece {
            address: section.address,
            bytes: section.bytes.into_owned(),
            ..Piece::default()
        };
        Self {
            eh_frame: image.eh_frame.map(piece),
            eh_frame_header: None,
            debug_frame: image.debug_frame.map(piece),
            text: image.text,
            got: image.got,
        }
    }

    /// It says nothing about any code.
    pub fn is_empty(&self) -> bool {
        self.eh_frame.is_none() && self.debug_frame.is_none()
    }

    /// The caller of the frame with these registers, whose code is at `code`. `None`: nothing is said about that code.
    pub fn caller(
        &self,
        registers: &Registers,
        code: ElfAddress,
        bias: u64,
        memory: &dyn TargetMemory,
    ) -> Result<Option<Caller>, WalkEnd> {
        let frame = Frame {
            registers,
            memory,
            bias,
        };
        if let Some(piece) = &self.eh_frame {
            let mut section = EhFrame::new(&piece.bytes, LittleEndian);
            section.set_address_size(8);
            let bases = BaseAddresses::default()
                .set_eh_frame(piece.address)
                .set_text(self.text)
                .set_got(self.got);
            let by_header = self.by_header(piece, &section, &bases, code);
            if let Some(entry) = by_header.or_else(|| piece.entry_of(&section, &bases, code)) {
                return frame.caller(&section, &bases, &entry, code).map(Some);
            }
        }
        if let Some(piece) = &self.debug_frame {
            let mut section = DebugFrame::new(&piece.bytes, LittleEndian);
            section.set_address_size(8);
            let bases = BaseAddresses::default();
            if let Some(entry) = piece.entry_of(&section, &bases, code) {
                return frame.caller(&section, &bases, &entry, code).map(Some);
            }
        }
        Ok(None)
    }

    /// By the linker's sorted table.
    fn by_header<'data>(
        &self,
        piece: &Piece,
        section: &EhFrame<Bytes<'data>>,
        bases: &BaseAddresses,
        code: ElfAddress,
    ) -> Option<FrameDescriptionEntry<Bytes<'data>>> {
        let header = self.eh_frame_header.as_ref()?;
        let bases = bases.clone().set_eh_frame_hdr(header.address);
        let parsed = EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8).ok()?;
        let table = parsed.table()?;
        // A row has two addresses of two bytes at least. gimli computes with the number that the file claims.
        let (_, claimed) = Iterator::size_hint(&table.iter(&bases));
        claimed.filter(|rows| *rows <= header.bytes.len() / 4)?;
        let address = table.lookup(code.0, &bases).and_then(gimli::Pointer::direct);
        // Where entries are, the table says; where the section is, the section table.
        let offset = address.ok()?.checked_sub(piece.address)?;
        piece.entry_at(section, &bases, usize::try_from(offset).ok()?, code)
    }
}

impl Piece {
    /// The entry that describes an address, wherever it is.
    fn entry_of<'data, S>(
        &self,
        section: &S,
        bases: &BaseAddresses,
        code: ElfAddress,
    ) -> Option<FrameDescriptionEntry<Bytes<'data>>>
    where
        S: UnwindSection<Bytes<'data>>,
        S::Offset: std::hash::Hash,
    {
        let index = self.index.get_or_init(|| EntryIndex::of(section, &self.bytes, bases));
        self.entry_at(section, bases, index.find(code.0)?, code)
    }

    /// The entry at an offset, if it describes that address.
    fn entry_at<'data, S>(
        &self,
        section: &S,
        bases: &BaseAddresses,
        offset: usize,
        code: ElfAddress,
    ) -> Option<FrameDescriptionEntry<Bytes<'data>>>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        let entry = section.fde_from_offset(bases, offset.into(), |section, bases, offset| {
            entries::short_cie(section, &self.bytes, bases, offset)
        });
        entry.ok().filter(|entry| entry.contains(code.0))
    }
}

impl Frame<'_> {
    fn caller<'data, S>(
        &self,
        section: &S,
        bases: &BaseAddresses,
        entry: &FrameDescriptionEntry<Bytes<'data>>,
        code: ElfAddress,
    ) -> Result<Caller, WalkEnd>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        if entry.entry_len() > MAX_ENTRY_BYTES {
            return Err(UNSUPPORTED);
        }
        let mut context = UnwindContext::new();
        let row = entry
            .unwind_info_for_address(section, bases, &mut context, code.0)
            .map_err(|_| UNSUPPORTED)?;
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.register(*register)?.wrapping_add(offset.cast_unsigned())
            }
            CfaRule::Expression(expression) => self.evaluate(section, expression, None)?,
        };
        let return_address = match row.register(Register(RIP)) {
            // The compiler's way to say that nobody called this: `_start`, `clone3`.
            Some(RegisterRule::Undefined) => return Err(WalkEnd::Stack(StackEnd::Outermost)),
            rule => self.recover(section, rule, RIP, cfa)?.ok_or(UNSUPPORTED)?,
        };
        let by_signal = entry.is_signal_trampoline();
        let stack_pointer = match row.register(Register(RSP)) {
            None | Some(RegisterRule::SameValue) => cfa,
            rule => self.recover(section, rule, RSP, cfa)?.ok_or(UNSUPPORTED)?,
        };
        let mut registers = Registers::new(return_address, stack_pointer);
        for number in (0..RIP).filter(|number| *number != RSP) {
            let value = self.recover(section, row.register(Register(number)), number, cfa)?;
            registers.set(number, value);
        }
        Ok(Caller { registers, by_signal })
    }

    /// The caller's value of a register; `None` when it is lost.
    fn recover<'data, S>(
        &self,
        section: &S,
        rule: Option<RegisterRule<usize>>,
        number: u16,
        cfa: u64,
    ) -> Result<Option<u64>, WalkEnd>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        let at = |offset: i64| cfa.wrapping_add(offset.cast_unsigned());
        Ok(match rule {
            // What a function does not speak of it leaves alone, if the ABI makes it preserve it.
            None if is_preserved(number) => self.registers.get(number),
            Some(RegisterRule::SameValue) => self.registers.get(number),
            Some(RegisterRule::Offset(offset)) => Some(self.word(at(offset))?),
            Some(RegisterRule::ValOffset(offset)) => Some(at(offset)),
            Some(RegisterRule::Register(other)) => self.registers.get(other.0),
            Some(RegisterRule::Expression(expression)) => {
                let address = self.evaluate(section, &expression, Some(cfa))?;
                Some(self.word(address)?)
            }
            Some(RegisterRule::ValExpression(expression)) => Some(self.evaluate(section, &expression, Some(cfa))?),
            Some(RegisterRule::Constant(value)) => Some(value),
            _ => None,
        })
    }

    fn register(&self, register: Register) -> Result<u64, WalkEnd> {
        self.registers.get(register.0).ok_or(if register.0 == RBP {
            WalkEnd::RbpUnknown
        } else {
            UNSUPPORTED
        })
    }

    fn word(&self, address: u64) -> Result<u64, WalkEnd> {
        self.memory
            .read_word(RuntimeAddress(address))
            .map_err(|_| WalkEnd::Stack(StackEnd::Unreadable))
    }

    fn evaluate<'data, S>(
        &self,
        section: &S,
        expression: &UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Result<u64, WalkEnd>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        let expression: Expression<Bytes<'data>> = expression.get(section).map_err(|_| UNSUPPORTED)?;
        let mut evaluation = expression.evaluation(ENCODING);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate();
        loop {
            state = match state.map_err(|_| UNSUPPORTED)? {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.register(register)?))
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let mut word = [0; 8];
                    let part = word.get_mut(..usize::from(size)).ok_or(UNSUPPORTED)?;
                    self.memory
                        .read_into(RuntimeAddress(address), part)
                        .map_err(|_| WalkEnd::Stack(StackEnd::Unreadable))?;
                    evaluation.resume_with_memory(Value::Generic(u64::from_le_bytes(word)))
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(self.bias))
                }
                _ => return Err(UNSUPPORTED),
            };
        }
        match evaluation.as_result().first().map(|piece| &piece.location) {
            Some(Location::Address { address }) => Ok(*address),
            _ => Err(UNSUPPORTED),
        }
    }
}

const UNSUPPORTED: WalkEnd = WalkEnd::Stack(StackEnd::UnsupportedRule);

/// rbx, rbp, r12 to r15.
const fn is_preserved(number: u16) -> bool {
    matches!(number, 3 | RBP | 12..=15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::memory::NoMemory;

    /// What the fuzz target `call_stack` found.
    #[test]
    fn a_search_table_that_claims_more_rows_than_any_file_has_finds_nothing() {
        // Version 1; the section as it is, a count of eight bytes, rows of twice eight, all absolute.
        let mut header = vec![1, 0x00, 0x04, 0x04];
        header.extend(0x1000_u64.to_le_bytes());
        header.extend(u64::MAX.to_le_bytes());
        header.extend([0; 32]);
        let piece = |address, bytes: Vec<u8>| {
            Some(Piece {
                address,
                bytes,
                ..Piece::default()
            })
        };
        let info = FrameInfo {
            eh_frame: piece(0x1000, vec![0; 16]),
            eh_frame_header: piece(0x2000, header),
            ..FrameInfo::default()
        };
        let found = info.caller(&Registers::new(0x5000, 0x7000), ElfAddress(0x5000), 0, &NoMemory);
        assert!(matches!(found, Ok(None)));
    }

    /// What it found first.
    #[test]
    fn a_search_table_that_points_before_its_section_finds_nothing() {
        // Version, encodings (udata8, udata4, udata4), where `.eh_frame` is, one entry: code and its description.
        let header = [
            &[1, 0x04, 0x03, 0x03][..],
            &0x2000u64.to_le_bytes(),
            &1u32.to_le_bytes(),
            &0x1000u32.to_le_bytes(),
            &0x1000u32.to_le_bytes(),
        ];
        let info = FrameInfo {
            eh_frame: Some(Piece {
                address: 0x2000,
                bytes: vec![0; 4],
                ..Piece::default()
            }),
            eh_frame_header: Some(Piece {
                address: 0x1ff0,
                bytes: header.concat(),
                ..Piece::default()
            }),
            ..FrameInfo::default()
        };
        let found = info.caller(&Registers::new(0x1000, 0x7000), ElfAddress(0x1000), 0, &NoMemory);
        assert!(matches!(found, Ok(None)));
    }

    const CODE: u64 = 0x10_0000;

    /// A CIE with this augmentation string, and so many FDEs of 16 bytes of code each, from [`CODE`]; all four-byte aligned.
    fn section(augmentation: &[u8], entries: u32) -> Vec<u8> {
        let with_length = |body: Vec<u8>| {
            let mut body = body;
            body.resize(body.len().next_multiple_of(4), 0);
            [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
        };
        // Id, version, augmentation, alignments of code (1) and data (-8), return address column, CFA rsp+8, ra at CFA-8.
        let cie = [
            &[0, 0, 0, 0, 1][..],
            augmentation,
            &[0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1],
        ]
        .concat();
        let mut bytes = with_length(cie);
        for number in 0..entries {
            let back = u32::try_from(bytes.len() + 4).unwrap();
            let fde = [
                &back.to_le_bytes()[..],
                &(CODE + 16 * u64::from(number)).to_le_bytes(),
                &16u64.to_le_bytes(),
            ];
            bytes.extend(with_length(fde.concat()));
        }
        bytes
    }

    fn of_section(bytes: Vec<u8>) -> FrameInfo {
        FrameInfo {
            eh_frame: Some(Piece {
                address: 0x2000,
                bytes,
                ..Piece::default()
            }),
            ..FrameInfo::default()
        }
    }

    struct Words;

    impl TargetMemory for Words {
        fn read_into(&self, address: RuntimeAddress, into: &mut [u8]) -> std::io::Result<()> {
            into.copy_from_slice(&address.0.to_le_bytes()[..into.len()]);
            Ok(())
        }
    }

    #[test]
    fn without_the_linkers_table_the_section_is_read_once_however_many_frames_there_are() {
        const ENTRIES: u32 = 300_000;
        let info = of_section(section(b"", ENTRIES));
        let mut looks = (0..ENTRIES).step_by(3);
        // One after the other, this many looks would read some two hundred gigabytes.
        assert!(looks.all(|number| {
            let code = ElfAddress(CODE + 16 * u64::from(number) + 5);
            let caller = info.caller(&Registers::new(code.0, 0x7000), code, 0, &Words);
            caller
                .ok()
                .flatten()
                .is_some_and(|caller| caller.registers.rip == 0x7000)
        }));
        for outside in [CODE - 1, CODE + 16 * u64::from(ENTRIES)] {
            let found = info.caller(&Registers::new(outside, 0x7000), ElfAddress(outside), 0, &Words);
            assert!(matches!(found, Ok(None)), "{outside:#x}");
        }
    }

    #[test]
    fn an_entry_that_all_others_build_on_is_not_read_for_each_when_it_is_megabytes_long() {
        let info = of_section(section(&vec![b'x'; 8 << 20], 300_000));
        let found = info.caller(&Registers::new(CODE, 0x7000), ElfAddress(CODE), 0, &Words);
        assert!(matches!(found, Ok(None)), "it says nothing");
    }

    #[test]
    fn an_entry_of_megabytes_of_instructions_is_not_run() {
        let mut bytes = section(b"", 1);
        let cie = usize::from(bytes[0]) + 4;
        bytes.resize(bytes.len() + (4 << 20), 0);
        let length = u32::try_from(bytes.len() - cie - 4).unwrap();
        bytes[cie..cie + 4].copy_from_slice(&length.to_le_bytes());
        let info = of_section(bytes);
        let found = info.caller(&Registers::new(CODE, 0x7000), ElfAddress(CODE), 0, &Words);
        assert!(matches!(found, Err(UNSUPPORTED)));
    }
}
