//! The probed functions of a session: numbered once, for as long as sites may name them.

use std::path::Path;

use memscope_ebpf::call::CallIndex;

use super::error::CollectionError;
use super::survey::Survey;
use crate::probe::attach::Probe;
use crate::probe::plan::PlannedCall;
use crate::target::process::Target;

/// Adds what a survey found to the functions a session knows, and gives each found one its number there. No number is
/// ever given to another function: sites recorded before a stop or a refresh go by it.
///
/// # Errors
/// The numbers have run out.
pub fn join(known: &mut Vec<PlannedCall>, survey: &Survey, target: &Target) -> Result<Vec<CallIndex>, CollectionError> {
    let mut numbers = Vec::with_capacity(survey.calls.len());
    for found in &survey.calls {
        let place = known.iter().position(|call| call.is_same_function(found));
        let place = place.unwrap_or(known.len());
        let too_many = |_| CollectionError::TooManyFunctions { pid: target.id.pid.0 };
        let index = CallIndex(u16::try_from(place).map_err(too_many)?);
        match known.get_mut(place) {
            // The library may have been loaded again at another address.
            Some(call) => call.entry = found.entry,
            None => known.push(found.clone().numbered(index)),
        }
        numbers.push(index);
    }
    Ok(numbers)
}

/// The probes of a survey whose functions have these numbers.
#[must_use]
pub fn probes<'a>(known: &'a [PlannedCall], numbers: &[CallIndex], survey: &'a Survey) -> Vec<Probe<'a>> {
    let paths = survey.module_paths.iter().map(AsRef::<Path>::as_ref);
    let probes = numbers.iter().zip(paths).filter_map(|(index, module)| {
        let call = known.get(usize::from(index.0))?;
        Some(Probe {
            index: *index,
            call,
            module,
        })
    });
    probes.collect()
}
