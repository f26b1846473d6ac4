//! Separate debug files: found by build id below `/usr/lib/debug`, in the target's file system and in ours.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::address::BuildId;
use super::elf::ElfImage;
use super::files::{below_root, open_regular};
use super::identity::Pid;

/// Where a debug file with this build id may be: GDB's convention ("Debugging Information in Separate Files").
fn relative_path(build_id: &BuildId) -> Option<String> {
    let (first, rest) = build_id.as_hex().split_at_checked(2)?;
    (!rest.is_empty()).then(|| format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"))
}

/// Adds the symbols of the image's debug file, if it was stripped, has a build id and such a file is installed. Says
/// where the file was.
///
/// A file that is no ELF image or has another build id is passed over: it is not this image's.
pub fn add_symbols(image: &mut ElfImage, pid: Pid) -> Option<PathBuf> {
    if image.has_full_symbols() {
        return None;
    }
    let relative = relative_path(image.build_id()?)?;
    let places = [below_root(pid, OsStr::new(&relative)), PathBuf::from(&relative)];
    places.into_iter().find(|path| {
        let debug = open_regular(path).ok().and_then(|(file, _)| ElfImage::parse(file).ok());
        debug.is_some_and(|debug| image.add_debug_file(debug).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_made_of_the_build_id() {
        let id = BuildId::from_bytes(&[0xab, 0xcd, 0xef]).expect("an id");
        assert_eq!(
            relative_path(&id).as_deref(),
            Some("/usr/lib/debug/.build-id/ab/cdef.debug")
        );
        let short = BuildId::from_bytes(&[0xab]).expect("an id");
        assert_eq!(relative_path(&short), None);
    }
}
