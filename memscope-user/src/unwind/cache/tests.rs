//! Only what is whole, ours and of our making is believed, and only our own folder is touched.

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("memscope-cache-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn entry(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        entries
            .find(|path| path.extension().is_some_and(|e| e == "unwind"))
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn own_elf() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

#[test]
fn the_second_time_it_is_there_and_the_same() {
    let folder = Folder::new("second");
    let elf = own_elf();
    let (cold, found) = TableCache::open(&folder.0).unwrap().table(&elf).unwrap();
    assert_eq!(found, Found::Cold);
    let (warm, found) = TableCache::open(&folder.0).unwrap().table(&elf).unwrap();
    assert_eq!(found, Found::Warm);
    assert_eq!(cold, warm);
}

#[test]
fn a_torn_entry_or_a_link_in_its_place_is_made_again() {
    let folder = Folder::new("torn");
    let elf = own_elf();
    let cache = TableCache::open(&folder.0).unwrap();
    cache.table(&elf).unwrap();
    let entry = folder.entry();
    let bytes = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(cache.table(&elf).unwrap().1, Found::Cold);
    assert_eq!(cache.table(&elf).unwrap().1, Found::Warm);
    let elsewhere = folder.0.join("elsewhere");
    std::fs::rename(&entry, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &entry).unwrap();
    assert_eq!(cache.table(&elf).unwrap().1, Found::Cold);
    assert!(!entry.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn what_a_killed_process_began_is_removed_and_what_a_living_one_writes_is_not() {
    let folder = Folder::new("killed");
    TableCache::open(&folder.0).unwrap();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let [left, written, foreign] = [
        format!(".{}-0.new", ended.id()),
        ".1-0.new".to_owned(),
        ".x-0.new".to_owned(),
    ]
    .map(|name| folder.0.join(name));
    for path in [&left, &written, &foreign] {
        std::fs::write(path, "half").unwrap();
    }
    TableCache::open(&folder.0).unwrap();
    assert!(!left.exists() && written.exists() && foreign.exists());
}

#[test]
fn nothing_is_removed_from_a_folder_that_is_not_ours() {
    let folder = Folder::new("unswept");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).unwrap();
    // By two names that this would write and that one of a killed process left.
    let own = format!(".{}-0.new", std::process::id());
    let left = [own.as_str(), ".4194305-0.new"].map(|name| folder.0.join(name));
    for path in &left {
        std::fs::write(path, "somebody's").unwrap();
    }
    assert!(matches!(TableCache::open(&folder.0), Err(CacheError::NotOurs { .. })));
    assert!(left.iter().all(|path| path.exists()));
}

#[test]
fn a_folder_put_in_the_place_of_the_one_that_was_opened_is_not_used() {
    let (folder, moved) = (Folder::new("swapped"), Folder::new("moved"));
    let cache = TableCache::open(&folder.0).unwrap();
    std::fs::rename(&folder.0, &moved.0).unwrap();
    std::fs::create_dir(&folder.0).unwrap();
    cache
        .write(&cache.folder.join(format!("0{SUFFIX}")), b"a table")
        .unwrap();
    assert!(moved.entry().exists());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn entries_are_bounded_by_their_bytes_the_oldest_go() {
    let folder = Folder::new("bytes");
    let cache = TableCache::open(&folder.0).unwrap();
    let now = std::time::SystemTime::now();
    let entry = |number: u64| folder.0.join(format!("{number:016x}{SUFFIX}"));
    for age in 0..5 {
        let file = create(&entry(age)).unwrap();
        file.set_len(MAX_BYTES / 4).unwrap();
        file.set_modified(now - std::time::Duration::from_secs(age * 60))
            .unwrap();
    }
    cache.drop_oldest();
    let left: Vec<bool> = (0..5).map(|age| entry(age).exists()).collect();
    assert_eq!(left, [true, true, true, true, false]);
}

#[test]
fn another_key_s_entries_are_not_believed() {
    let folder = Folder::new("key");
    let elf = own_elf();
    TableCache::open(&folder.0).unwrap().table(&elf).unwrap();
    std::fs::write(folder.0.join(KEY_FILE), [7; KEY_BYTES]).unwrap();
    assert_eq!(TableCache::open(&folder.0).unwrap().table(&elf).unwrap().1, Found::Cold);
}

#[test]
fn a_folder_that_others_can_enter_or_a_link_is_refused() {
    let folder = Folder::new("open");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(TableCache::open(&folder.0), Err(CacheError::NotOurs { .. })));
    std::fs::set_permissions(&folder.0, Permissions::from_mode(0o700)).unwrap();
    TableCache::open(&folder.0).unwrap();
    let link = Folder::new("link");
    std::os::unix::fs::symlink(&folder.0, &link.0).unwrap();
    assert!(matches!(TableCache::open(&link.0), Err(CacheError::NotOurs { .. })));
    std::fs::remove_file(&link.0).unwrap();
}
