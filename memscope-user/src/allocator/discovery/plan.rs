//! From definitions to probes: one function an address, its other names kept; a jump to another function is its alias.

use std::collections::BTreeMap;

use super::definitions::{Definition, Definitions};
use super::indirect::Indirect;
use super::owner::Owner;
use super::{FoundFunction, LeftOut};
use crate::allocator::catalogue::{AllocatorName, Role};
use crate::target::address::ElfAddress;
use crate::target::elf::{ElfImage, FunctionKind};

/// A function to probe, before the calls of all images are numbered.
#[derive(Clone, Debug)]
struct Candidate {
    owner: usize,
    /// Place of the name in the order of the tables: of several names the first is shown.
    rank: usize,
    name: String,
    aliases: Vec<String>,
    role: Role,
    address: ElfAddress,
    size: u64,
}

/// The most indirect functions of one image that are resolved: each takes a look at every image's relocations.
const MAX_INDIRECT: usize = 64;

/// The most functions of one image that are probed, the whole catalogue and more: each takes a look at all of the image's
/// code, and its probes some milliseconds to attach.
const MAX_FUNCTIONS: usize = 256;

/// What one allocator of an image comes to.
pub(super) struct Planned {
    pub(super) name: AllocatorName,
    pub(super) functions: Vec<FoundFunction>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Plans the probes of one image. Calls are not yet numbered.
pub(super) fn plan(
    module: usize,
    image: &ElfImage,
    defined: &Definitions,
    owners: &[Owner],
    indirect: &Indirect<'_>,
) -> Vec<Planned> {
    let mut left_out: Vec<Vec<LeftOut>> = vec![Vec::new(); owners.len()];
    let mut by_address: BTreeMap<ElfAddress, Candidate> = BTreeMap::new();
    let mut resolved = 0;
    for (rank, (owner, name, role, definition)) in wanted(defined, owners).enumerate() {
        let addresses = match definition.kind {
            FunctionKind::Direct => Ok(vec![definition.address]),
            FunctionKind::Indirect if resolved == MAX_INDIRECT => Err("one indirect function (IFUNC) too many".into()),
            FunctionKind::Indirect => {
                resolved += 1;
                indirect.resolve(module, &name, definition.address)
            }
        };
        let addresses = addresses.unwrap_or_else(|reason| {
            left_out[owner].push(LeftOut::new(&name, reason));
            Vec::new()
        });
        for address in addresses {
            let executable = image
                .segments()
                .holding(address)
                .is_some_and(|segment| segment.executable);
            if !executable {
                left_out[owner].push(LeftOut::new(&name, "its address is in no executable part of the file"));
                continue;
            }
            match by_address.get_mut(&address) {
                None => {
                    let size = if address == definition.address {
                        definition.size
                    } else {
                        0
                    };
                    by_address.insert(
                        address,
                        Candidate {
                            owner,
                            rank,
                            name: name.clone(),
                            aliases: Vec::new(),
                            role,
                            address,
                            size,
                        },
                    );
                }
                Some(known) if known.name == name || known.aliases.contains(&name) => {
                    known.size = known.size.max(definition.size);
                }
                Some(known) if known.role == role => known.aliases.push(name.clone()),
                Some(known) => {
                    let reason = format!("the same code as {}, which does something else", known.name);
                    left_out[owner].push(LeftOut::new(&name, reason));
                }
            }
        }
    }
    join_jumps(image, &mut by_address);
    finish(module, image, owners, by_address, left_out)
}

impl Candidate {
    fn add_names_of(&mut self, mut alias: Self) {
        if alias.rank < self.rank {
            self.rank = alias.rank;
            std::mem::swap(&mut self.name, &mut alias.name);
        }
        self.aliases.push(alias.name);
        self.aliases.extend(alias.aliases);
    }
}

/// Every definition that a table of an owner names, in the order of the tables.
fn wanted<'a>(
    defined: &'a Definitions,
    owners: &'a [Owner],
) -> impl Iterator<Item = (usize, String, Role, &'a Definition)> {
    owners.iter().enumerate().flat_map(move |(owner, what)| {
        what.tables.iter().flat_map(move |table| {
            table.entries.iter().flat_map(move |entry| {
                let name = format!("{}{}", table.prefix, entry.name);
                let definitions: Vec<_> = defined.named(&name).collect();
                definitions
                    .into_iter()
                    .map(move |definition| (owner, name.clone(), entry.role, definition))
            })
        })
    })
}

/// A function that begins with a jump to another one of the same role is that one under another name. Probing both
/// would pay twice for each call, and both would see the same stack pointer.
fn join_jumps(image: &ElfImage, by_address: &mut BTreeMap<ElfAddress, Candidate>) {
    let jumps: BTreeMap<ElfAddress, ElfAddress> = by_address
        .keys()
        .filter_map(|address| Some((*address, jump_target(image, *address)?)))
        .filter(|(from, to)| match (by_address.get(from), by_address.get(to)) {
            (Some(from), Some(to)) => from.role == to.role,
            _ => false,
        })
        .collect();
    for from in jumps.keys() {
        // A chain of jumps ends within as many steps as there are jumps, or is a circle.
        let to = (0..=jumps.len()).try_fold(*from, |at, _| jumps.get(&at).copied().ok_or(at));
        if let Err(to) = to
            && let Some(alias) = by_address.remove(from)
            && let Some(target) = by_address.get_mut(&to)
        {
            target.add_names_of(alias);
        }
    }
}

/// Where the function goes at once, if its first instruction (after an `endbr64`) is an unconditional direct jump.
fn jump_target(image: &ElfImage, address: ElfAddress) -> Option<ElfAddress> {
    let code = image.code(address, 9).ok()?;
    let skipped: u64 = if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) {
        4
    } else {
        0
    };
    let code = code.get(usize::try_from(skipped).ok()?..)?;
    let (length, distance) = match code {
        [0xe9, a, b, c, d, ..] => (5, i64::from(i32::from_le_bytes([*a, *b, *c, *d]))),
        [0xeb, a, ..] => (2, i64::from(a.cast_signed())),
        _ => return None,
    };
    let next = address.0.checked_add(skipped + length)?;
    Some(ElfAddress(next.checked_add_signed(distance)?))
}

fn finish(
    module: usize,
    image: &ElfImage,
    owners: &[Owner],
    by_address: BTreeMap<ElfAddress, Candidate>,
    left_out: Vec<Vec<LeftOut>>,
) -> Vec<Planned> {
    let mut planned: Vec<Planned> = owners
        .iter()
        .zip(left_out)
        .map(|(owner, left_out)| Planned {
            name: owner.name.clone(),
            functions: Vec::new(),
            left_out,
        })
        .collect();
    for (number, candidate) in by_address.into_values().enumerate() {
        let owner = &mut planned[candidate.owner];
        if number == MAX_FUNCTIONS {
            let reason =
                format!("it and what follows: more functions than the {MAX_FUNCTIONS} of one file that are probed");
            owner.left_out.push(LeftOut::new(&candidate.name, reason));
            break;
        }
        let Some(offset) = image.segments().to_offset(candidate.address) else {
            continue;
        };
        owner.functions.push(FoundFunction {
            call: candidate.role.to_spec(owner.name.zero_size_frees(), super::UNNUMBERED),
            name: candidate.name,
            aliases: candidate.aliases,
            module,
            address: candidate.address,
            offset,
            size: candidate.size,
        });
    }
    planned.retain(|found| !found.functions.is_empty() || !found.left_out.is_empty());
    planned
}
