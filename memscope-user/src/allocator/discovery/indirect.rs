//! Indirect functions (IFUNC): which code the loader chose for them in this very process.
//!
//! The resolver itself cannot be run from outside. But whoever calls an indirect function does so through a word that
//! the loader has filled in, and relocations say where these words are.

use std::collections::BTreeSet;

use crate::target::address::{ElfAddress, RuntimeAddress};
use crate::target::elf::{ElfImage, LoadBias, SlotValue};
use crate::target::loaded::{Content, LoadedImage};
use crate::target::memory::TargetMemory;

/// The most words that are read for one function.
const MAX_SLOTS: usize = 256;

/// The images and the memory they have been relocated in.
pub(in crate::allocator) struct Indirect<'a> {
    pub(in crate::allocator) images: &'a [LoadedImage],
    pub(in crate::allocator) memory: &'a dyn TargetMemory,
}

impl Indirect<'_> {
    /// The functions that `name`, whose resolver is at `resolver` in the image `module`, has been resolved to.
    pub(in crate::allocator) fn resolve(
        &self,
        module: usize,
        name: &str,
        resolver: ElfAddress,
    ) -> Result<Vec<ElfAddress>, String> {
        let Some(own) = self.content(module) else {
            return Err("its image cannot be read".into());
        };
        let mut words = BTreeSet::new();
        for (index, content) in (0..self.images.len()).filter_map(|index| Some((index, self.content(index)?))) {
            // A relocation table that cannot be read names no slots; other images may.
            let _unreadable = content.image.visit_slots(&mut |slot| {
                let is_it = match slot.value {
                    SlotValue::Named(named) => named == name,
                    SlotValue::ResolvedBy(address) => index == module && address == resolver,
                };
                if is_it && words.len() < MAX_SLOTS {
                    words.insert(content.bias.to_runtime(slot.address));
                }
            });
        }
        if words.is_empty() {
            return Err("an indirect function (IFUNC) that no relocation refers to".into());
        }
        let mut functions = BTreeSet::new();
        let mut failure = None;
        for word in words {
            match self.memory.read_word(word) {
                Ok(value) => {
                    let address = own.bias.to_elf(RuntimeAddress(value));
                    if is_function(&own.image, address) && address != resolver {
                        functions.insert(address);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if functions.is_empty() {
            return Err(match failure {
                Some(error) => {
                    format!("an indirect function (IFUNC); the word with its address cannot be read: {error}")
                }
                None => "an indirect function (IFUNC) that has not been resolved in this process yet".into(),
            });
        }
        Ok(functions.into_iter().collect())
    }

    /// Which image the word at a slot leads into, with the address there; `None` for words that lead nowhere.
    pub(in crate::allocator) fn image_at(&self, bias: LoadBias, slot: ElfAddress) -> Option<usize> {
        let value = self.memory.read_word(bias.to_runtime(slot)).ok()?;
        (0..self.images.len()).find(|index| {
            self.content(*index).is_some_and(|content| {
                let address = content.bias.to_elf(RuntimeAddress(value));
                is_function(&content.image, address)
            })
        })
    }

    pub(in crate::allocator) fn content(&self, index: usize) -> Option<&Content> {
        self.images.get(index)?.content.as_ref().ok()
    }
}

/// Whether the address is code of the image, and not the stub of its procedure linkage table that a slot holds until
/// the first call: `push $n` or `jmp *GOT`, after an `endbr64` where the image has them.
fn is_function(image: &ElfImage, address: ElfAddress) -> bool {
    let executable = image
        .segments()
        .holding(address)
        .is_some_and(|segment| segment.executable);
    let Ok(code) = image.code(address, 8) else {
        return false;
    };
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&code);
    executable && !code.starts_with(&[0x68]) && !code.starts_with(&[0xff, 0x25])
}
