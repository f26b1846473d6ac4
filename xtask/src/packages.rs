//! The Debian packages the project uses: the one place that lists them (names of Debian 12).

/// A BPF compiler with its `core`, and the LLVM that bpf-linker is built against.
pub const TOOLCHAIN: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf", LLVM];

/// LLVM's development files, of the major version inside `rustc-web`.
pub const LLVM: &str = "llvm-22-dev";
/// The major version of [`LLVM`].
pub const LLVM_MAJOR: u32 = 22;
/// Where [`LLVM`] is installed, as bpf-linker's build wants to be told.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// What the tests build their target programs with, compare against, or trace.
pub const TESTS: &[&str] = &[
    // Compilers of the target programs, and the tools that look at the result.
    "gcc",
    "g++",
    "make",
    "musl-tools",
    "binutils",
    "gdb",
    "strace",
    // Symbols of the C library, for gdb's stacks to compare with.
    "libc6-dbg",
    // Allocators other than glibc's.
    "libjemalloc2",
    "libtcmalloc-minimal4",
    "libmimalloc2.0",
    // Real programs to trace.
    "git",
    "nginx",
    "perl",
    "python3",
    "redis-server",
    "redis-tools",
    "sqlite3",
    // Readers of what memscope exports: `go tool pprof`, a browser, the collector and the monitoring.
    "golang-go",
    "chromium",
    "prometheus",
    "prometheus-node-exporter",
    // setpriv, unshare, nsenter: other users and other namespaces.
    "util-linux",
];

/// Packages of [`TESTS`] that would start a service, with its name.
pub const SERVICES: &[(&str, &str)] = &[
    ("redis-server", "redis-server"),
    ("nginx", "nginx"),
    ("prometheus", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
];

/// The machine that other kernels are run on, and its shell. Fetched and unpacked by `cargo xtask kernels`, never installed.
pub const KERNELS: &[&str] = &["qemu-system-x86", "busybox-static"];
