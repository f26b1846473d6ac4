//! Separate debug files: found by build id below `/usr/lib/debug`, in the target's file system and in ours.

use std::path::{Path, PathBuf};

use super::address::BuildId;
use super::elf::ElfImage;
use super::files::bounded;
use super::identity::Pid;
use super::open::{open_in_root, root_of};

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
    add_symbols_from(image, &[root_of(pid), PathBuf::from("/")])
}

/// From the first of these root directories that has them; none is left by a link in it.
fn add_symbols_from(image: &mut ElfImage, roots: &[PathBuf]) -> Option<PathBuf> {
    if image.has_full_symbols() {
        return None;
    }
    let relative = relative_path(image.build_id()?)?;
    let path = Path::new(&relative);
    let root = roots.iter().find(|root| {
        let file = open_in_root(root, path).and_then(bounded);
        let debug = file.ok().and_then(|file| ElfImage::parse(file).ok());
        debug.is_some_and(|debug| image.add_debug_file(debug).is_ok())
    })?;
    Some(root.join(path.strip_prefix("/").unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::target::compiled::{Folder, image};

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

    #[test]
    fn a_link_in_the_targets_root_stays_in_it() {
        let folder = Folder::new("debug-root");
        let library = folder.compile("lib.so", "int hidden(void) { return 3; }", &["-shared", "-fPIC", "-g"]);
        folder.tool("objcopy", &["--only-keep-debug", "lib.so", "lib.debug"]);
        folder.tool("strip", &["lib.so"]);
        let stripped = || image(&library);
        let root = folder.path("root");
        let relative = relative_path(stripped().build_id().expect("a build id")).expect("a path");
        let inside = root.join(relative.trim_start_matches('/'));
        std::fs::create_dir_all(inside.parent().expect("a folder")).expect("a folder");
        // Out of the root it is the right file, and no more to be followed than one that is a device.
        symlink(folder.path("lib.debug"), &inside).expect("a link");
        let roots = [root.clone()];
        assert_eq!(add_symbols_from(&mut stripped(), &roots), None);
        std::fs::copy(folder.path("lib.debug"), root.join("lib.debug")).expect("a copy");
        std::fs::remove_file(&inside).expect("the link");
        symlink("/lib.debug", &inside).expect("a link");
        assert_eq!(add_symbols_from(&mut stripped(), &roots), Some(inside));
    }
}
