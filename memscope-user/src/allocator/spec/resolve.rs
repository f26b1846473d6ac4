//! Specifications against the images of a target: which code each names.

use std::collections::BTreeMap;

use super::near::Nearest;
use super::{CustomSpec, Place, ResolveError};
use crate::allocator::discovery::Indirect;
use crate::target::address::{ElfAddress, FileOffset};
use crate::target::elf::FunctionKind;
use crate::target::loaded::{Content, LoadedImage};

/// Code that a specification names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::allocator) struct Resolved<'a> {
    pub(in crate::allocator) spec: &'a CustomSpec,
    pub(in crate::allocator) module: usize,
    pub(in crate::allocator) name: String,
    pub(in crate::allocator) address: ElfAddress,
    pub(in crate::allocator) size: u64,
}

/// The most places that one name is probed at: every module may define it once or twice.
const MAX_PLACES: usize = 256;

/// Finds what each specification names, by module and address. Two that name the same code must agree.
pub(in crate::allocator) fn resolve<'a>(
    specs: &'a [CustomSpec],
    images: &Indirect<'_>,
) -> Result<BTreeMap<(usize, ElfAddress), Resolved<'a>>, ResolveError> {
    let mut all: BTreeMap<(usize, ElfAddress), Resolved<'a>> = BTreeMap::new();
    for spec in specs {
        let places = match &spec.place {
            Place::Offset { module, offset } => by_offset(spec, module, *offset, images)?,
            Place::Name { module, function } => by_name(spec, module.as_deref(), function, images)?,
        };
        for place in places {
            let known = all
                .entry((place.module, place.address))
                .or_insert_with(|| place.clone());
            if known.spec.role != spec.role {
                return Err(ResolveError::Conflict {
                    first: known.spec.text.clone(),
                    second: spec.text.clone(),
                });
            }
        }
    }
    Ok(all)
}

fn by_offset<'a>(
    spec: &'a CustomSpec,
    module: &str,
    offset: FileOffset,
    images: &Indirect<'_>,
) -> Result<Vec<Resolved<'a>>, ResolveError> {
    modules(spec, Some(module), images)?
        .into_iter()
        .map(|index| {
            let image = &images.images[index];
            let segments = image.content.as_ref().ok().map(|content| content.image.segments());
            let address = segments.and_then(|segments| {
                let address = segments.to_address(offset)?;
                segments.holding(address).filter(|segment| segment.executable)?;
                Some(address)
            });
            let address = address.ok_or_else(|| ResolveError::NotCode {
                spec: spec.text.clone(),
                offset: offset.0,
                module: image.path().to_string_lossy().into_owned(),
            })?;
            Ok(Resolved {
                spec,
                module: index,
                name: format!("{module}+{:#x}", offset.0),
                address,
                size: 0,
            })
        })
        .collect()
}

fn by_name<'a>(
    spec: &'a CustomSpec,
    module: Option<&str>,
    function: &str,
    images: &Indirect<'_>,
) -> Result<Vec<Resolved<'a>>, ResolveError> {
    let searched = modules(spec, module, images)?;
    let mut found: BTreeMap<(usize, ElfAddress), (FunctionKind, u64)> = BTreeMap::new();
    for (index, content) in contents(&searched, images) {
        // What cannot be read of an image is said by the discovery that goes with this.
        let _problems = content.image.visit_functions(&mut |candidate| {
            if candidate.name == function && found.len() < MAX_PLACES {
                let size = &mut found.entry((index, candidate.address)).or_insert((candidate.kind, 0)).1;
                *size = candidate.size.max(*size);
            }
        });
    }
    if found.is_empty() {
        return Err(no_function(spec, module, function, &searched, images));
    }
    let mut places = Vec::new();
    for ((index, address), (kind, size)) in found {
        let addresses = match kind {
            FunctionKind::Direct => vec![(address, size)],
            FunctionKind::Indirect => images
                .resolve(index, function, address)
                .map_err(|reason| ResolveError::NotResolved {
                    spec: spec.text.clone(),
                    reason,
                })?
                .into_iter()
                .map(|address| (address, 0))
                .collect(),
        };
        places.extend(addresses.into_iter().map(|(address, size)| Resolved {
            spec,
            module: index,
            name: function.to_owned(),
            address,
            size,
        }));
    }
    Ok(places)
}

fn no_function(
    spec: &CustomSpec,
    module: Option<&str>,
    function: &str,
    searched: &[usize],
    images: &Indirect<'_>,
) -> ResolveError {
    let mut near = Nearest::to(function);
    for (index, content) in contents(searched, images) {
        let _problems = content
            .image
            .visit_functions(&mut |candidate| near.consider(candidate.name, index));
    }
    let near = near
        .into_names()
        .map(|(name, index)| format!("{name} (in {})", images.images[index].mapping.module_name()));
    ResolveError::NoFunction {
        spec: spec.text.clone(),
        function: function.to_owned(),
        searched: match module {
            Some(module) => module.to_owned(),
            None => format!("the target's {} modules", searched.len()),
        },
        near: near.collect(),
    }
}

fn contents<'a>(searched: &[usize], images: &Indirect<'a>) -> impl Iterator<Item = (usize, &'a Content)> {
    let all = images.images;
    searched
        .iter()
        .filter_map(move |index| Some((*index, all.get(*index)?.content.as_ref().ok()?)))
}

/// The images a specification is to be looked for in.
fn modules(spec: &CustomSpec, module: Option<&str>, images: &Indirect<'_>) -> Result<Vec<usize>, ResolveError> {
    let all = images.images.iter().enumerate();
    let Some(module) = module else {
        return Ok(all.map(|(index, _)| index).collect());
    };
    let named: Vec<_> = all
        .filter(|(_, image)| is_named(image, module))
        .map(|(index, _)| index)
        .collect();
    if named.is_empty() {
        return Err(ResolveError::NoModule {
            spec: spec.text.clone(),
            module: module.to_owned(),
            modules: images.images.iter().map(|image| image.mapping.module_name()).collect(),
        });
    }
    Ok(named)
}

/// By path, by file name with or without the version at its end (`libpool.so` for `libpool.so.1.2`), or by soname.
fn is_named(image: &LoadedImage, module: &str) -> bool {
    let file = image.mapping.module_name();
    let versioned = |rest: &str| rest.starts_with('.');
    image.path() == module
        || file
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || versioned(rest))
        || image
            .content
            .as_ref()
            .is_ok_and(|content| content.image.soname() == Some(module))
}
