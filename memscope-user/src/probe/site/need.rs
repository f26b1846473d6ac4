//! What a probe needs to find at its site.

use memscope_ebpf::call::{Argument, CallKind, CallResult, CallSpec};

/// A set of argument positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArgumentSet(u8);

impl ArgumentSet {
    /// How many arguments travel in registers.
    pub const MOST: usize = 6;

    /// This set and one more position.
    #[must_use]
    pub fn with(self, argument: Argument) -> Self {
        Self(self.0 | 1 << argument.position())
    }

    /// The positions, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Argument> {
        (0..)
            .take(Self::MOST)
            .filter(move |position| self.0 >> position & 1 == 1)
            .filter_map(Argument::new)
    }
}

impl FromIterator<Argument> for ArgumentSet {
    fn from_iter<I: IntoIterator<Item = Argument>>(arguments: I) -> Self {
        arguments.into_iter().fold(Self::default(), Self::with)
    }
}

/// What a probe needs to find at its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteNeed {
    /// Arguments that the program reads.
    pub arguments: ArgumentSet,
    /// `[rsp]` must still be the return address: a return probe is set from this site.
    pub return_address: bool,
    /// Calls with NULL in this argument may pass the site by: `free(NULL)` is nothing.
    pub null_may_bypass: Option<Argument>,
    /// The target may run with a user shadow stack, under which most kernels emulate `call` wrongly: such a site is then
    /// avoided. `x86_Thread_features` in `/proc/PID/status` tells.
    pub shadow_stack: bool,
}

impl SiteNeed {
    /// What the programs read of a call with this row. A shadow stack is assumed.
    #[must_use]
    pub fn of(spec: &CallSpec) -> Self {
        let stored = match spec.result {
            CallResult::Stored(argument) => Some(argument),
            CallResult::Returned | CallResult::Nothing => None,
        };
        let arguments = [spec.size, spec.count, spec.pointer, spec.flags, stored];
        let frees = spec.kind == CallKind::Free;
        Self {
            arguments: arguments.into_iter().flatten().collect(),
            return_address: !frees,
            null_may_bypass: spec.pointer.filter(|_| frees),
            shadow_stack: true,
        }
    }
}
