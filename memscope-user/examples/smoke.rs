use memscope::database::{bpffs, load, paths::Roots, store};
use memscope::target::{identity::Pid, process::Target};
fn main() {
    let roots = Roots::from_environment();
    let t = Target::of_pid(Pid(std::process::id())).unwrap();
    drop(store::lock_or_create(&roots, t.id).unwrap());
    let paths = roots.session(t.id);
    memscope::database::folder::make_private(&paths.bpf).unwrap();
    let mut o = load::object(&paths, 1 << 20).unwrap();
    for p in ["call_enter", "call_return", "free_enter"] {
        let s = std::time::Instant::now();
        let r = load::uprobe(&mut o, p).map(|_| ());
        println!("{p} {:?} {:?}", r.map_err(|e| e.to_string()), s.elapsed());
    }
    for p in ["target_exec", "thread_exit"] {
        println!(
            "{p} {:?}",
            load::raw_tracepoint(&mut o, p).map(|_| ()).map_err(|e| e.to_string())
        );
    }
    let _ = bpffs::is_bpffs(&paths.bpf);
    store::remove(&paths).unwrap();
}
