//! Names of shared sites, what sessions agree on, and when they share.

use memscope_ebpf::call::{Argument, CallKind, CallResult};

use super::*;

fn site() -> SharedSite {
    SharedSite {
        kind: 2,
        file: FileKey {
            device: (0xfe, 1),
            inode: 77,
        },
        offset: FileOffset(0x98930),
        cookie: 0xf0e_ff01,
    }
}

fn row(kind: CallKind, index: u16) -> u64 {
    let spec = CallSpec {
        kind,
        size: Argument::new(1),
        count: None,
        pointer: Argument::new(0),
        result: CallResult::Returned,
        zero_size_frees: true,
        failure_frees: false,
        flags: None,
        by_exits: false,
        rounds: false,
        stepped: true,
        index: CallIndex(index),
    };
    spec.to_cookie()
}

#[test]
fn a_name_says_all_that_a_site_is_and_is_one_that_the_kernel_takes() {
    let mut others = vec![site(); 6];
    others[0].kind = 1;
    others[1].file.device.0 = 0xf;
    others[2].file.device = (0xf, 0xe1);
    others[3].file.inode = 7;
    others[4].offset.0 += 1;
    others[5].cookie ^= 1 << 32;
    let mut names: BTreeSet<String> = others.iter().map(SharedSite::name).collect();
    names.insert(site().name());
    assert_eq!(names.len(), 7, "{names:?}");
    // MAX_EVENT_NAME_LEN, kernel/trace/trace_probe.h, and the widest device, inode, place and row there can be.
    let widest = SharedSite {
        kind: map::ROUTES.len() - 1,
        file: FileKey {
            device: (0xfff, 0xf_ffff),
            inode: u64::MAX,
        },
        offset: FileOffset(u64::MAX),
        cookie: row(CallKind::Remap, u16::MAX),
    };
    let name = widest.name();
    assert!(name.len() < 64, "{name}");
    assert!(name.starts_with(|letter: char| letter.is_ascii_lowercase()), "{name}");
    assert!(
        name.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_'),
        "{name}"
    );
}

#[test]
fn sessions_that_number_their_functions_otherwise_share_all_but_what_begins_a_call() {
    let (one, other) = (row(CallKind::Realloc, 3), row(CallKind::Realloc, 9));
    for program in [
        Program::CallReturn,
        Program::CallExit,
        Program::RegionReturn,
        Program::FreeEnter,
        Program::ExceptionSeen,
    ] {
        assert_eq!(read_by(program, one), read_by(program, other), "{program:?}");
    }
    for program in [Program::CallEnter, Program::RegionEnter] {
        assert_eq!(
            (read_by(program, one), read_by(program, other)),
            (one, other),
            "{program:?}"
        );
    }
    // Which register holds the pointer is no number in a list.
    let elsewhere = one ^ 1 << 12;
    assert_ne!(read_by(Program::FreeEnter, one), read_by(Program::FreeEnter, elsewhere));
}

#[test]
fn a_session_shares_in_a_file_where_anothers_probes_sit() {
    let scratch = tempfile::tempdir().unwrap();
    let session = |name: &str| SessionPaths {
        bpf: scratch.path().join(name),
        run: scratch.path().join("run").join(name),
    };
    let alive = Target::of_pid(Pid(std::process::id())).unwrap().id;
    let (mine, other) = (session("10-1"), session(&alive.to_string()));
    let (file, another) = (
        site().file,
        FileKey {
            inode: 78,
            ..site().file
        },
    );
    std::fs::create_dir_all(mine.probed(file)).unwrap();
    assert!(
        !Sharing::WhereItPays.wanted(&mine, file).unwrap(),
        "its own probe is no reason"
    );
    std::fs::create_dir_all(session("family-11-1").probed(file)).unwrap();
    assert!(
        !Sharing::WhereItPays.wanted(&mine, file).unwrap(),
        "a family is no session"
    );
    std::fs::create_dir_all(session("4194305-1").probed(file)).unwrap();
    assert!(
        !Sharing::WhereItPays.wanted(&mine, file).unwrap(),
        "its target has ended"
    );
    std::fs::create_dir_all(other.probed(another)).unwrap();
    assert!(!Sharing::WhereItPays.wanted(&mine, file).unwrap());
    std::fs::create_dir_all(other.probed(file)).unwrap();
    assert!(Sharing::WhereItPays.wanted(&mine, file).unwrap());
    assert!(!Sharing::Never.wanted(&mine, file).unwrap());
    assert!(
        Sharing::Always
            .wanted(&session("12-1"), FileKey { inode: 1, ..file })
            .unwrap()
    );
}

#[test]
fn a_word_that_is_none_of_the_three_is_told() {
    assert_eq!(Sharing::named(""), Ok(Sharing::WhereItPays));
    assert_eq!(Sharing::named("always"), Ok(Sharing::Always));
    let told = Sharing::named("on").unwrap_err();
    assert!(told.contains("`on`") && told.contains("never"), "{told}");
}
