//! The target's own rules: what its `__lsan_default_suppressions` returns, read from the file without running it.
//!
//! The function returns a constant string, so a compiler makes of it a handful of instructions that put an address into
//! RAX. Those forms are followed, and nothing else: a function that computes is not guessed at.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::rules::{self, Origin, Rule};
use crate::target::address::ElfAddress;
use crate::target::elf::{ElfImage, FunctionKind, ImageKind};
use crate::target::files::open_mapped;
use crate::target::process::Target;

/// The function that LeakSanitizer asks.
pub const FUNCTION: &str = "__lsan_default_suppressions";

/// More code than any of the forms takes.
const MAX_CODE: u64 = 64;
/// More text than anybody writes into a program.
const MAX_TEXT: u64 = 1 << 16;

/// Why the string of a function that is there was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// Its code is not one of the forms that are followed.
    #[error("its code is not a plain return of a constant (`{0}`)")]
    Computes(String),
    /// The code or the string is not in the file.
    #[error("{0} is not in the file")]
    NotInFile(&'static str),
    /// No end within the limit, or no UTF-8.
    #[error("what it returns is no text")]
    NoText,
}

/// The rules of a running target's program; none where it defines no such function. What could not be read or parsed is
/// the error, one line for a note: rules that are not known do not keep anybody from a report.
///
/// # Errors
/// A text for a note.
pub fn rules_of(target: &Target) -> Result<Vec<Rule>, String> {
    let unread = |why: &dyn std::fmt::Display| format!("{FUNCTION} of process {} was not read: {why}", target.id.pid);
    let exe = target.exe().map_err(|error| unread(&error))?;
    let mappings = target.mappings().map_err(|error| unread(&error))?;
    let Some(mapping) = mappings
        .iter()
        .find(|mapping| mapping.executable && mapping.path == exe)
    else {
        return Ok(Vec::new());
    };
    let bytes = open_mapped(target.memory_pid(), mapping).map_err(|error| unread(&error))?;
    let image = ElfImage::parse(bytes).map_err(|error| unread(&error))?;
    match default_suppressions(&image) {
        None => Ok(Vec::new()),
        Some(Err(error)) => Err(unread(&error)),
        Some(Ok(text)) => {
            let origin = Origin::Target(exe.to_string_lossy().into_owned());
            rules::parse(&text, &origin).map_err(|error| error.to_string())
        }
    }
}

/// The string of an image; `None` when it defines no such function.
#[must_use]
pub fn default_suppressions(image: &ElfImage) -> Option<Result<String, NotRead>> {
    let mut address = None;
    // What of the tables is damaged has no function for us.
    image.visit_functions(&mut |function| {
        if function.name == FUNCTION && function.kind == FunctionKind::Direct {
            address = Some(function.address);
        }
    });
    Some(text_returned(image, address?))
}

fn text_returned(image: &ElfImage, function: ElfAddress) -> Result<String, NotRead> {
    let code = image
        .code(function, MAX_CODE)
        .map_err(|_| NotRead::NotInFile("its code"))?;
    let address = returned(&code, function, image.kind())?;
    let bytes = image
        .code(address, MAX_TEXT)
        .map_err(|_| NotRead::NotInFile("the string it returns"))?;
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(NotRead::NoText)?;
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| NotRead::NoText)
}

/// The address in RAX at the function's return.
pub(super) fn returned(code: &[u8], function: ElfAddress, kind: ImageKind) -> Result<ElfAddress, NotRead> {
    let mut decoder = Decoder::with_ip(64, code, function.0, DecoderOptions::NONE);
    let mut result = None;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        match step(&instruction, kind) {
            Step::Result(address) => result = Some(address),
            Step::Nothing => {}
            Step::Return => return result.ok_or_else(|| computes(&instruction)),
            Step::Unknown => return Err(computes(&instruction)),
        }
    }
    Err(NotRead::NotInFile("the end of its code"))
}

fn computes(instruction: &Instruction) -> NotRead {
    NotRead::Computes(format!("{:?}", instruction.mnemonic()).to_lowercase())
}

enum Step {
    Result(ElfAddress),
    Nothing,
    Return,
    Unknown,
}

/// `lea rax,[rip+x]`; in a program at fixed addresses also `mov eax,x`; frames set up and taken down; `ret`.
fn step(instruction: &Instruction, kind: ImageKind) -> Step {
    let first = instruction.op0_register();
    match instruction.mnemonic() {
        Mnemonic::Lea if first == Register::RAX && instruction.is_ip_rel_memory_operand() => {
            Step::Result(ElfAddress(instruction.ip_rel_memory_address()))
        }
        Mnemonic::Mov if matches!(first, Register::EAX | Register::RAX) && is_constant(instruction) => {
            // A position-independent image has no addresses among its constants.
            match kind {
                ImageKind::FixedAddress => Step::Result(ElfAddress(instruction.immediate(1))),
                ImageKind::PositionIndependent => Step::Unknown,
            }
        }
        Mnemonic::Mov if first == Register::RBP && instruction.op1_register() == Register::RSP => Step::Nothing,
        Mnemonic::Push | Mnemonic::Pop if first == Register::RBP => Step::Nothing,
        Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Leave => Step::Nothing,
        Mnemonic::Ret => Step::Return,
        _ => Step::Unknown,
    }
}

fn is_constant(instruction: &Instruction) -> bool {
    matches!(
        instruction.op1_kind(),
        OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
    )
}
