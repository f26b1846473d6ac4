//! What a traced pair costs on this host: measured once on a child of our own, kept until the next boot.

use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;

use memscope_ebpf::counter::Counter;
use memscope_ebpf::limits::map;
use memscope_ebpf::state::Control;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sacrifice::Sacrifice;
use crate::allocator::discovery::Wanted;
use crate::collection::error::CollectionError;
use crate::collection::survey::survey;
use crate::database::error::DatabaseError;
use crate::database::kernel_map::KernelMap;
use crate::database::paths::Roots;
use crate::database::session_file::HitPrices;
use crate::database::tally::Tally;
use crate::database::{folder, load};
use crate::probe::attach;
use crate::probe::exits::{self, Returns};
use crate::target::identity::Pid;
use crate::target::loaded::load_images;
use crate::target::memory::ProcessMemory;
use crate::target::process::Target;

/// Why it could not be measured.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The child.
    #[error("cannot measure what a probe costs here: the child to try it on: {source}")]
    Child {
        /// Why.
        source: io::Error,
    },
    /// The child runs on an allocator that we do not know.
    #[error("cannot measure what a probe costs here: memscope's own malloc cannot be probed")]
    NoAllocator,
    /// The figure would be that of something else.
    #[error(
        "cannot measure what a probe costs here: of the pairs the child made, {allocated} allocations and {freed} frees were seen"
    )]
    Unseen {
        /// Allocations the probes counted.
        allocated: u64,
        /// Frees.
        freed: u64,
    },
    /// As on any target.
    #[error(transparent)]
    Collection(Box<CollectionError>),
}

impl From<CollectionError> for CalibrationError {
    fn from(error: CollectionError) -> Self {
        Self::Collection(Box::new(error))
    }
}

impl From<DatabaseError> for CalibrationError {
    fn from(error: DatabaseError) -> Self {
        Self::Collection(Box::new(error.into()))
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    version: String,
    kernel: String,
    /// Nanoseconds of CPU time that probes add to a malloc+free pair whose stack is not followed.
    pub pair_ns: f64,
    /// Nanoseconds that one hit more at a single-stepped `ret` adds.
    pub step_ns: f64,
}

/// A frame's share of what a pair costs whose stack is not followed (`cargo xtask bench`: 22 ns of 2600).
const FRAME_SHARE: f64 = 0.009;
/// Probes a pair hits: at the call, at its return, at the free.
const HITS_A_PAIR: f64 = 3.0;
/// What a single step costs in pairs where it cannot be measured: rather more than less (4 in a virtual machine of 2026, less
/// than 1 on bare metal).
const STEP_SHARE: f64 = 4.0;
const LEAST_STEP: f64 = 0.1;
/// How long the child runs for one figure, and how often. The least is taken: whatever else the machine does only adds.
const RUN_MS: u32 = 5;
const RUNS: usize = 6;

fn least_pair(child: &mut Sacrifice) -> io::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        least = least.min(child.pair_ns(RUN_MS)?);
    }
    Ok(least)
}

impl Calibration {
    /// The one of this boot; measured if it has not been.
    ///
    /// # Errors
    /// The child cannot be started or probed.
    pub fn of_this_host(roots: &Roots) -> Result<Self, CalibrationError> {
        match Self::kept(roots) {
            Some(kept) => Ok(kept),
            None => {
                let measured = Self::measure()?;
                if let Ok(text) = serde_json::to_vec(&measured) {
                    // What cannot be kept is measured again.
                    let _ = folder::replace_file(&file(roots), &text);
                }
                Ok(measured)
            }
        }
    }

    /// The one that was measured since the last boot by this version under this kernel.
    #[must_use]
    pub fn kept(roots: &Roots) -> Option<Self> {
        let kept: Self = serde_json::from_slice(&std::fs::read(file(roots)).ok()?).ok()?;
        let fits = kept.version == env!("CARGO_PKG_VERSION") && kept.kernel == kernel();
        (fits && kept.pair_ns.is_finite() && kept.pair_ns > 0.0).then_some(kept)
    }

    /// CPU nanoseconds that so many probe hits cost, with stacks of so many frames on average.
    #[must_use]
    pub fn cost_ns(&self, hits: f64, frames: f64) -> f64 {
        self.pair_ns * (1.0 + FRAME_SHARE * frames) * hits / HITS_A_PAIR
    }

    /// What so many hits that are single-stepped cost more than others.
    #[must_use]
    pub fn steps_ns(&self, steps: f64) -> f64 {
        self.step_ns * steps
    }

    /// The same for the programs, which spend a budget: what one hit costs, and how much more one that is single-stepped.
    #[must_use]
    pub fn prices(&self) -> HitPrices {
        HitPrices {
            hit_ns: (self.cost_ns(1.0, TYPICAL_FRAMES).round() as u32).max(1),
            step_ns: self.steps_ns(1.0).round() as u32,
        }
    }

    fn measure() -> Result<Self, CalibrationError> {
        let child_failed = |source| CalibrationError::Child { source };
        let mut child = Sacrifice::start(false)?;
        let untraced = least_pair(&mut child).map_err(child_failed)?;
        let probes = probe(child.pid())?;
        let traced = least_pair(&mut child).map_err(child_failed)?;
        let pair_ns = (traced - untraced).max(1.0);
        let measured = match probe_exits(child.pid()) {
            Ok(exits) => {
                let stepped = least_pair(&mut child).map_err(child_failed)?;
                drop(exits);
                Some(stepped - traced)
            }
            Err(_) => None,
        };
        // A trap more cannot cost next to nothing: such a figure was not measured.
        let step_ns = measured
            .filter(|step| *step > pair_ns * LEAST_STEP)
            .unwrap_or(pair_ns * STEP_SHARE);
        drop(child);
        require_pairs(&probes)?;
        drop(probes);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel(),
            pair_ns,
            step_ns,
        })
    }
}

/// That what was timed were pairs: as many allocations as frees met a probe.
fn require_pairs(object: &aya::Ebpf) -> Result<(), CalibrationError> {
    let counters = load::map_of(object, map::COUNTERS)?;
    let tally = Tally::read(&counters).map_err(DatabaseError::map("read", map::COUNTERS))?;
    let (allocated, freed) = (tally.get(Counter::Allocated), tally.get(Counter::Freed));
    // A few blocks of the child's own stand between.
    if allocated > 0 && freed > 0 && allocated.abs_diff(freed) <= 1 + allocated / 100 {
        return Ok(());
    }
    Err(CalibrationError::Unseen { allocated, freed })
}

/// Frames of a stack where none has been seen yet.
const TYPICAL_FRAMES: f64 = 10.0;

/// Attaches the real programs to malloc and free of a child of ours, with maps of their own that nobody else sees. They go
/// with what is returned.
///
/// # Errors
/// As on any target.
pub fn probe(pid: u32) -> Result<aya::Ebpf, CalibrationError> {
    let target = Target::of_pid(Pid(pid)).map_err(CollectionError::from)?;
    let survey = survey(&target, Wanted::default())?;
    let mut object = load::object_alone()?;
    let named = |name: &str| survey.calls.iter().position(|call| call.function == name);
    let (Some(malloc), Some(free)) = (named("malloc"), named("free").or_else(|| named("cfree"))) else {
        return Err(CalibrationError::NoAllocator);
    };
    let control = Control {
        tgid: pid,
        collecting: 1,
        ..Control::default()
    };
    let map: KernelMap<u32, Control> = load::map_of(&object, map::CONTROL)?;
    map.update(0, &control)
        .map_err(DatabaseError::map("write", map::CONTROL))?;
    let thread = NonZeroU32::new(pid).ok_or(CalibrationError::NoAllocator)?;
    for index in [malloc, free] {
        attach::attach_alone(
            &mut object,
            thread.get(),
            &survey.calls[index],
            survey.module_paths[index].as_ref(),
        )
        .map_err(CollectionError::from)?;
    }
    Ok(object)
}

/// Attaches programs that do nothing to malloc's exits in a child of ours, besides those that are there.
fn probe_exits(pid: u32) -> Result<aya::Ebpf, CalibrationError> {
    let target = Target::of_pid(Pid(pid)).map_err(CollectionError::from)?;
    let survey = survey(&target, Wanted::default())?;
    let place = survey.calls.iter().position(|call| call.function == "malloc");
    let index = place.ok_or(CalibrationError::NoAllocator)?;
    let found = survey.discovery.functions().nth(index);
    let (module, address) = found
        .map(|function| (function.module, function.address))
        .ok_or(CalibrationError::NoAllocator)?;
    let images = load_images(Pid(pid), &target.mappings().map_err(CollectionError::from)?);
    let memory = ProcessMemory::open(Pid(pid)).map_err(|_| CalibrationError::NoAllocator)?;
    let exits = exits::of_function(module, address, &images, &memory).map_err(|_| CalibrationError::NoAllocator)?;
    let mut call = survey.calls[index].clone();
    call.returns = Returns::ByExits(exits);
    let mut object = load::object_alone()?;
    attach::attach_empty(&mut object, pid, &[call], &survey.module_paths[index..=index])
        .map_err(CollectionError::from)?;
    Ok(object)
}

/// Kept beside the sessions, whose folder a reboot empties.
fn file(roots: &Roots) -> PathBuf {
    roots.run.join("calibration.json")
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(pair_ns: f64) -> Calibration {
        Calibration {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel(),
            pair_ns,
            step_ns: 10_000.0,
        }
    }

    #[test]
    fn cost_grows_with_hits_and_frames() {
        let calibration = calibration(3000.0);
        assert_eq!(calibration.cost_ns(3.0, 0.0), 3000.0);
        assert_eq!(calibration.cost_ns(30.0, 100.0).round(), 57_000.0);
        assert_eq!(calibration.steps_ns(2.0), 20_000.0);
        // A third of a pair with ten frames.
        let (hit_ns, step_ns) = (1090, 10_000);
        assert_eq!(calibration.prices(), HitPrices { hit_ns, step_ns });
    }

    #[test]
    fn only_a_calibration_of_this_kernel_and_version_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots {
            bpf: folder.path().join("bpf"),
            run: folder.path().to_owned(),
        };
        let keep = |calibration: &Calibration| {
            std::fs::write(file(&roots), serde_json::to_vec(calibration).unwrap()).unwrap();
            Calibration::kept(&roots)
        };
        assert_eq!(Calibration::kept(&roots), None);
        assert_eq!(keep(&calibration(2500.0)), Some(calibration(2500.0)));
        let mut other = calibration(2500.0);
        other.kernel.push('x');
        assert_eq!(keep(&other), None);
        assert_eq!(keep(&calibration(-1.0)), None);
    }
}
