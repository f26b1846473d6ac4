//! Indexing that the BPF verifier can follow: a power-of-two mask that LLVM is kept from removing.

/// The element at `index`, taken modulo the array's length (a power of two).
///
/// LLVM drops a mask that it can prove redundant from a range the verifier does not know, and the verifier then rejects
/// the access; an empty assembly statement hides the masked value from LLVM.
#[inline(always)]
#[must_use]
pub fn element<T, const N: usize>(array: &[T; N], index: u32) -> &T {
    const { assert!(N.is_power_of_two() && N <= 1 << 31) };
    let masked = u64::from(index) & (N as u64 - 1);
    #[cfg(target_arch = "bpf")]
    {
        let mut hidden = masked;
        // SAFETY: the statement has no instruction; it returns its operand.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) hidden, options(pure, nomem, nostack, preserves_flags));
        }
        // SAFETY: `hidden` is `masked`, which is below N.
        unsafe { array.get_unchecked(hidden as usize) }
    }
    #[cfg(not(target_arch = "bpf"))]
    &array[masked as usize]
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn an_index_past_the_end_wraps() {
        assert_eq!(*element(&[10, 11, 12, 13], 2), 12);
        assert_eq!(*element(&[10, 11, 12, 13], 4), 10);
        assert_eq!(*element(&[10, 11, 12, 13], u32::MAX), 13);
    }
}
