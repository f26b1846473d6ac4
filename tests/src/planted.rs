//! Real programs with a leak put in, driven at a known rate: a module in redis-server, a library in python.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::target::Target;
use crate::workload::{Folder, redis};

/// redis-server with `programs/redis_plant.c`.
#[derive(Debug)]
pub struct Redis {
    target: Target,
    folder: Folder,
}

impl Redis {
    /// Starts it.
    pub fn start() -> Self {
        let folder = Folder::new();
        let mut command = redis::command(folder.path());
        command.arg("--loadmodule").arg(library("redis_plant.c"));
        let target = Target::spawn(command);
        redis::wait(folder.path());
        Self { target, folder }
    }

    /// A connection.
    pub fn client(&self) -> redis::Client {
        redis::Client::new(self.folder.path())
    }

    /// Its socket.
    pub fn socket(&self) -> String {
        self.folder.path().join("socket").to_string_lossy().into_owned()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }
}

/// A program of this folder as a library.
fn library(source: &str) -> std::path::PathBuf {
    Program::new(source).flags(&["-shared", "-fPIC"]).build()
}

const PYTHON: &str = r"
import ctypes, json, sys
plant = ctypes.CDLL(sys.argv[1])
plant.plant_keep.argtypes = plant.plant_pass.argtypes = [ctypes.c_size_t]
print('ready', flush=True)
for line in sys.stdin:
    what, size = line.split()
    text = json.dumps({'size': size, 'rows': list(range(50))})
    (plant.plant_keep if what == 'keep' else plant.plant_pass)(int(size))
    print('done', len(json.loads(text)['rows']), flush=True)
";

/// python3 with `programs/python_plant.c`; obeys `keep SIZE` and `pass SIZE`.
pub fn python() -> Target {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-s", "-c", PYTHON]).arg(library("python_plant.c"));
    Target::start_command(command)
}

/// What a driver lost, and in which time.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
    /// Time.
    pub lasted: Duration,
}

impl Truth {
    /// Bytes a minute.
    pub fn bytes_per_minute(&self) -> f64 {
        self.bytes as f64 * 60.0 / self.lasted.as_secs_f64()
    }

    /// Blocks a minute.
    pub fn blocks_per_minute(&self) -> f64 {
        self.blocks as f64 * 60.0 / self.lasted.as_secs_f64()
    }
}

/// Has something lost about eight times a second, at uneven distances and of uneven sizes, for so long. `request` gets the size
/// and a number that says when to do other things too.
pub fn drive(lasting: Duration, mut request: impl FnMut(u64, u64)) -> Truth {
    let begun = Instant::now();
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % below
    };
    let mut truth = Truth {
        blocks: 0,
        bytes: 0,
        lasted: lasting,
    };
    let mut due = Duration::ZERO;
    while due < lasting {
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let size = 500 + draw(1000);
        request(size, truth.blocks);
        truth.blocks += 1;
        truth.bytes += size;
        due += Duration::from_millis(50 + draw(150));
    }
    truth.lasted = begun.elapsed();
    truth
}
