//! Which frame of a stack is the program's own: the one to show when there is room for one.

use std::sync::Arc;

use crate::report::model::{Frame, Stack, TargetDescription};

/// The innermost frame in the program itself; without one (a plug-in's thread, a stripped stack), the innermost outside
/// the allocator's module; else the allocator function called. `None` for a stack without frames.
#[must_use]
pub fn own_frame<'a>(stack: &'a Stack, target: &TargetDescription) -> Option<&'a Arc<Frame>> {
    let program = target.exe.rsplit('/').next().unwrap_or(&target.exe);
    let in_program = |frame: &&Arc<Frame>| match (&frame.build_id, &target.build_id) {
        (Some(of_frame), Some(of_program)) => of_frame == of_program,
        _ => frame.module == program,
    };
    let allocator = stack.frames.first()?;
    let mut after = stack.frames.iter().skip(1);
    after
        .clone()
        .find(in_program)
        .or_else(|| after.find(|frame| frame.module != allocator.module))
        .or(Some(allocator))
}
