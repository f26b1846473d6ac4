//! A thread's registers, as far as they are known, by their DWARF numbers.

/// rbp.
pub const RBP: u16 = 6;
/// rsp.
pub const RSP: u16 = 7;
/// The return address column.
pub const RIP: u16 = 16;

/// General registers and the program counter (System V ABI, AMD64 supplement, figure 3.36).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Program counter.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    others: [Option<u64>; 16],
}

impl Registers {
    /// Program counter and stack pointer, nothing else being known.
    pub const fn new(rip: u64, rsp: u64) -> Self {
        Self {
            rip,
            rsp,
            others: [None; 16],
        }
    }

    /// From the kernel's `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h), which ptrace and BPF both give.
    pub fn from_pt_regs(saved: &[u64; PT_REGS]) -> Self {
        // r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs flags rsp ss, as DWARF numbers.
        const ORDER: [usize; 15] = [15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5];
        let mut registers = Self::new(saved[16], saved[19]);
        for (value, number) in saved.iter().zip(ORDER) {
            registers.others[number] = Some(*value);
        }
        registers
    }

    /// A register by its DWARF number.
    pub fn get(&self, number: u16) -> Option<u64> {
        match number {
            RSP => Some(self.rsp),
            RIP => Some(self.rip),
            other => self.others.get(usize::from(other)).copied().flatten(),
        }
    }

    /// Sets one of the general registers other than rsp.
    pub fn set(&mut self, number: u16, value: Option<u64>) {
        if let Some(register) = self.others.get_mut(usize::from(number)) {
            *register = value;
        }
    }
}

/// Words in `struct pt_regs`.
pub const PT_REGS: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_order_is_put_into_dwarfs() {
        let mut saved = [0; PT_REGS];
        for (index, word) in saved.iter_mut().enumerate() {
            *word = 100 + index as u64;
        }
        let registers = Registers::from_pt_regs(&saved);
        // rax rdx rcx rbx rsi rdi rbp rsp r8 … r15 rip.
        let expected = [
            110, 112, 111, 105, 113, 114, 104, 119, 109, 108, 107, 106, 103, 102, 101, 100, 116,
        ];
        for (number, value) in expected.into_iter().enumerate() {
            assert_eq!(registers.get(number as u16), Some(value), "register {number}");
        }
        assert_eq!(registers.get(17), None);
        assert_eq!(Registers::new(1, 2).get(RBP), None);
    }
}
