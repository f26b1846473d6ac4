//! How a frame and a stack are named where all there is is one line of text.

use crate::report::Escaped;
use crate::report::model::{Frame, Stack};
use crate::report::own_code::frame_name;
use crate::report::sites::SitesReport;

/// A frame's name, made safe for one line.
pub(super) fn frame(frame: &Frame) -> String {
    Escaped(&frame_name(frame)).to_string()
}

/// Why a stack may have less than all its frames, as a frame of its own: what is missing must not look like the thread's
/// start. `None` for a whole stack.
pub(super) fn missing(stack: &Stack) -> Option<String> {
    let shortcomings: Vec<String> = stack.shortcomings().collect();
    (!shortcomings.is_empty()).then(|| format!("[{}]", shortcomings.join(", ")))
}

/// A stack's frames, outermost first; never empty.
pub(super) fn outermost_first(stack: &Stack) -> impl Iterator<Item = String> + '_ {
    let whole = stack.complete() && stack.frames.is_empty();
    let nothing = whole.then(|| "[no frames]".to_owned());
    let named = stack.frames.iter().rev().map(|each| frame(each));
    missing(stack).into_iter().chain(nothing).chain(named)
}

/// What to say of figures that are estimates; `None` where every block is recorded.
pub fn estimated(report: &SitesReport) -> Option<String> {
    let (sampling, error) = (report.sampling?, report.bytes_error()?);
    Some(format!(
        "estimated from one block in {} bytes allocated: ± {error} bytes (95 %)",
        sampling.sample_bytes
    ))
}
