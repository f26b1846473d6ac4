//! Names come from the build that was mapped, wherever it now is, and from no other; so do site ids.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{FrameIdentity, ModuleMap, site_id};
use super::{PROGRAM, Target, assert_only_places, compile, functions};
use crate::report::model::SiteId;
use crate::target::address::{BuildId, RuntimeAddress};

fn debug_file(folder: &Path, program: &Path, id: &BuildId) -> PathBuf {
    let (first, rest) = id.as_hex().split_at(2);
    let file = folder.join(format!(".build-id/{first}/{rest}.debug"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let status = Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(program)
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success());
    file
}

#[test]
fn a_stripped_program_has_places_until_its_debug_file_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let full = compile(folder.path(), "full", PROGRAM, &["-g"]);
    let program = folder.path().join("prog");
    assert!(
        Command::new("strip")
            .arg("-o")
            .arg(&program)
            .arg(&full)
            .status()
            .unwrap()
            .success()
    );
    let mut target = Target::start(&program);
    target.end();
    assert_only_places(&target.names(false, folder.path()), &program);

    let id = target.module().build_id.clone().unwrap();
    let debug_file = debug_file(folder.path(), &full, &id);
    assert_eq!(
        functions(&target.names(false, folder.path())),
        ["inner", "outer", "leaf"]
    );
    // Also when the program itself is gone.
    fs::remove_file(&program).unwrap();
    let frames = target.names(false, folder.path());
    assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
    assert_eq!(frames[0].source.as_ref().unwrap().line, Some(4));

    // A debug file of another build under this build's name is not believed.
    let other = compile(folder.path(), "other", &PROGRAM.replace("leaf", "wrong"), &["-g"]);
    fs::copy(other, debug_file).unwrap();
    assert_only_places(&target.names(false, folder.path()), &program);
}

#[test]
fn a_program_replaced_by_another_build_lends_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = PROGRAM.replace("leaf", "wrong").replace("outer", "false_name");
    for id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let program = compile(folder.path(), "prog", PROGRAM, &["-g", id]);
        let other = compile(folder.path(), "other", &renamed, &["-g", id]);
        let mut target = Target::start(&program);
        assert_eq!(
            functions(&target.names(true, folder.path())),
            ["inner", "outer", "leaf"]
        );
        assert_eq!(target.module().build_id.is_none(), id.ends_with("none"));
        fs::rename(&other, &program).unwrap();
        // The mapped file can still be read, by those who may.
        let frames = target.names(true, folder.path());
        let may_read = fs::read_dir(format!("/proc/{}/map_files", target.pid)).is_ok()
            && crate::target::open::open_regular(Path::new(&map_file(&target))).is_ok();
        if may_read {
            assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
        } else {
            assert_only_places(&frames, &program);
        }
        target.end();
        assert_only_places(&target.names(false, folder.path()), &program);
        // A PID that is another process by now lends nothing either.
        assert_only_places(&target.names(true, folder.path()), &program);
    }
}

fn map_file(target: &Target) -> String {
    let segment = target.module().segments[0];
    format!("/proc/{}/map_files/{:x}-{:x}", target.pid, segment.start, segment.end)
}

#[test]
fn without_build_id_a_changed_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &["-g", "-Wl,--build-id=none"]);
    let mut target = Target::start(&program);
    target.end();
    assert_eq!(
        functions(&target.names(false, folder.path())),
        ["inner", "outer", "leaf"]
    );
    let file = fs::File::options().append(true).open(&program).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_only_places(&target.names(false, folder.path()), &program);
}

#[test]
fn symbols_in_a_compressed_image_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let full = compile(folder.path(), "full", PROGRAM, &[]);
    let compressed = folder.path().join("symbols.xz");
    let mut out = fs::File::create(&compressed).unwrap();
    lzma_rs::xz_compress(&mut fs::read(&full).unwrap().as_slice(), &mut out).unwrap();
    let program = folder.path().join("prog");
    let section = format!(".gnu_debugdata={}", compressed.display());
    let objcopy = ["--strip-all", "--add-section", &section];
    assert!(
        Command::new("objcopy")
            .args(objcopy)
            .arg(&full)
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let frames = Target::start(&program).names(true, folder.path());
    assert_eq!(functions(&frames), ["outer", "leaf"]);
    assert_eq!(frames[1].offset, 0);
}

#[test]
fn one_stack_has_one_site_id_in_every_run() {
    let folder = tempfile::tempdir().unwrap();
    let id_of = |program: &Path| -> (SiteId, RuntimeAddress) {
        let target = Target::start(program);
        let map = ModuleMap::new(target.modules.clone());
        let frame = map.identity(target.return_address);
        assert_ne!(frame, FrameIdentity::Nowhere);
        (site_id(map.identity(target.function), [frame]), target.return_address)
    };
    for id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let program = compile(folder.path(), "prog", PROGRAM, &["-fPIE", "-pie", id]);
        let runs: Vec<_> = (0..4).map(|_| id_of(&program)).collect();
        assert!(runs.iter().all(|(site, _)| *site == runs[0].0), "{runs:x?}");
        assert!(
            runs.iter().any(|(_, address)| *address != runs[0].1),
            "address space layout is not random here"
        );
        fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
        let moved = folder.path().join("elsewhere/prog");
        fs::copy(&program, &moved).unwrap();
        assert_eq!(id_of(&moved).0, runs[0].0);
    }
}
