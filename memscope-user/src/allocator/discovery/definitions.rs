//! The functions of one image whose names the catalogue, or a custom specification, may want.

use std::collections::BTreeSet;

use crate::allocator::catalogue::{C, JEMALLOC, MIMALLOC, OPERATORS, REGIONS, RUST, TCMALLOC};
use crate::target::address::ElfAddress;
use crate::target::elf::{ElfError, ElfImage, FunctionKind, SymbolTable};

/// Names that tell whose implementation of `malloc` an image holds.
pub(super) const GLIBC_MARKS: &[&str] = &["_int_malloc", "__libc_mallopt", "gnu_get_libc_version"];
/// musl's loader stages (its loader and libc are one file), new malloc, old malloc.
pub(super) const MUSL_MARKS: &[&str] = &["__dls3", "__libc_malloc_impl", "__malloc_donate", "__bin_chunk"];
/// Rust's default global allocator, which calls the C library's.
pub(super) const RUST_DEFAULT: &str = "__rdl_alloc";

/// jemalloc's prefixes are words; an image that claims more of them than this is up to something else, and is not traced.
const MAX_PREFIXES: usize = 64;
const MAX_PREFIX: usize = 32;

/// The most definitions kept of one image: the whole catalogue a few times over. A target with an image that has more is
/// refused.
pub(crate) const MAX_DEFINITIONS: usize = 4096;

/// One function symbol with a name of interest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) address: ElfAddress,
    pub(super) size: u64,
    pub(super) kind: FunctionKind,
    pub(super) table: SymbolTable,
}

/// What one image defines of interest.
#[derive(Clone, Debug, Default)]
pub(super) struct Definitions {
    pub(super) functions: Vec<Definition>,
    /// Prefixes under which jemalloc's functions are defined; the empty one for its plain names.
    pub(super) jemalloc_prefixes: Vec<String>,
    /// What could not be read.
    pub(super) problems: Vec<ElfError>,
    /// There are more than are kept.
    pub(super) too_many: bool,
}

impl Definitions {
    /// Reads the symbol tables of an image: once, and once more if it turns out to hold a jemalloc with a prefix.
    pub(super) fn of(image: &ElfImage) -> Self {
        let plain: BTreeSet<&str> = [C, JEMALLOC, OPERATORS, TCMALLOC, MIMALLOC, RUST, REGIONS]
            .into_iter()
            .flatten()
            .map(|entry| entry.name)
            .chain(GLIBC_MARKS.iter().copied())
            .chain(MUSL_MARKS.iter().copied())
            .chain([RUST_DEFAULT])
            .collect();
        let mut found = Self::default();
        let mut prefixes = BTreeSet::new();
        let mut too_many_prefixes = false;
        found.collect(image, |name| {
            if let Some(prefix) = name.strip_suffix("mallocx")
                && prefix.len() <= MAX_PREFIX
                && !prefixes.contains(prefix)
            {
                if prefixes.len() == MAX_PREFIXES {
                    too_many_prefixes = true;
                } else {
                    prefixes.insert(prefix.to_owned());
                }
            }
            let name = rust_name(name).unwrap_or(name);
            plain.get(name).map(|name| (*name).to_owned())
        });
        found.too_many |= too_many_prefixes;
        prefixes.remove("");
        if !prefixes.is_empty() {
            let bases: BTreeSet<&str> = [C, JEMALLOC].into_iter().flatten().map(|entry| entry.name).collect();
            found.collect(image, |name| {
                let prefixed = |prefix: &String| {
                    name.strip_prefix(prefix.as_str())
                        .is_some_and(|base| bases.contains(base))
                };
                prefixes.iter().any(prefixed).then(|| name.to_owned())
            });
        }
        prefixes.insert(String::new());
        // A linked-in jemalloc has only those functions left that its program uses.
        let is_jemalloc = |prefix: &String| {
            let any = |bases: &[&str]| bases.iter().any(|base| found.has(&format!("{prefix}{base}")));
            any(&["mallocx"]) && any(&["free", "dallocx", "sdallocx"])
        };
        found.jemalloc_prefixes = prefixes.iter().filter(|prefix| is_jemalloc(prefix)).cloned().collect();
        found
    }

    /// Whether a function of this name is defined.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// Every function of this name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Definition> {
        self.functions.iter().filter(move |function| function.name == name)
    }

    fn collect(&mut self, image: &ElfImage, mut wanted: impl FnMut(&str) -> Option<String>) {
        let mut seen: BTreeSet<(String, ElfAddress)> = BTreeSet::new();
        let (functions, too_many) = (&mut self.functions, &mut self.too_many);
        let problems = image.visit_functions(&mut |function| {
            let Some(name) = wanted(function.name) else { return };
            let key = (name, function.address);
            if seen.contains(&key) {
                return;
            }
            if functions.len() == MAX_DEFINITIONS {
                *too_many = true;
                return;
            }
            functions.push(Definition {
                name: key.0.clone(),
                address: function.address,
                size: function.size,
                kind: function.kind,
                table: function.table,
            });
            seen.insert(key);
        });
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

/// The plain name of an allocation function that rustc mangled: `_RNvCs…_7___rustc12___rust_alloc` is `__rust_alloc`
/// (v0 mangling, RFC 2603: an identifier is its length, `_` if it begins with one, and the text).
fn rust_name(name: &str) -> Option<&str> {
    let (_, identifier) = name.strip_prefix("_RNvC")?.split_once("_7___rustc")?;
    let digits = identifier.bytes().take_while(u8::is_ascii_digit).count();
    let (length, rest) = identifier.split_at(digits);
    let text = rest.strip_prefix('_')?;
    (length.parse() == Ok(text.len())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::rust_name;

    #[test]
    fn mangled_rust_allocation_functions_have_their_plain_name() {
        assert_eq!(
            rust_name("_RNvCsfLfy6EI15iL_7___rustc12___rust_alloc"),
            Some("__rust_alloc")
        );
        assert_eq!(
            rust_name("_RNvCsfLfy6EI15iL_7___rustc11___rdl_alloc"),
            Some("__rdl_alloc")
        );
        assert_eq!(rust_name("_RNvCsfLfy6EI15iL_7___rustc99___rust_alloc"), None);
        assert_eq!(rust_name("__rust_alloc"), None);
        assert_eq!(rust_name("_RNvC_7___rustc"), None);
    }
}
