//! `/proc/PID/maps`, in which paths are the target's, and the names that reports make of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::report::Escaped;
use memscope::target::identity::Pid;
use memscope::target::mapping::parse_maps;
use memscope_fuzz::seeds;

fuzz_target!(init: seeds::plant([
    seeds::file("/proc/self/maps"),
    b"7f00-7f10 r-xp 00002000 fe:00 42  /usr/lib/libc.so.6\n8000-9000 rw-p 0 00:1f 7 /tmp/a b\\012\xff\x1b[2J (deleted)\n".to_vec(),
]), |data: &[u8]| {
    for mapping in parse_maps(data) {
        let name = mapping.module_name();
        let shown = Escaped(&name).to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        let _path = (mapping.file(), mapping.open_path(Pid(1)));
    }
});
