//! Indexing and comparing so that the BPF verifier has one path to follow: arithmetic that LLVM is kept from rewriting.

/// The element at `index`, taken modulo the array's length (a power of two).
#[inline(always)]
#[must_use]
pub fn element<T, const N: usize>(array: &[T; N], index: u32) -> &T {
    let masked = masked::<N>(index);
    #[cfg(target_arch = "bpf")]
    // SAFETY: `masked` is below N.
    unsafe {
        array.get_unchecked(masked)
    }
    #[cfg(not(target_arch = "bpf"))]
    &array[masked]
}

/// As [`element`], to be written.
#[inline(always)]
#[must_use]
pub fn element_mut<T, const N: usize>(array: &mut [T; N], index: u32) -> &mut T {
    let masked = masked::<N>(index);
    #[cfg(target_arch = "bpf")]
    // SAFETY: `masked` is below N.
    unsafe {
        array.get_unchecked_mut(masked)
    }
    #[cfg(not(target_arch = "bpf"))]
    &mut array[masked]
}

/// LLVM drops a mask that it can prove redundant from a range the verifier does not know, and the verifier then rejects
/// the access: so the mask is an instruction that LLVM does not look into.
#[inline(always)]
fn masked<const N: usize>(index: u32) -> usize {
    const { assert!(N.is_power_of_two() && N <= 1 << 31) };
    #[cfg(target_arch = "bpf")]
    {
        let mut masked = u64::from(index);
        // SAFETY: one instruction on one register.
        unsafe {
            core::arch::asm!("{0} &= {1}", inout(reg) masked, const N - 1, options(pure, nomem, nostack));
        }
        masked as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        index as usize & (N - 1)
    }
}

/// The same number, but to the verifier another one. A loop that ends at a count teaches it the count, at each of its exits
/// another one; if the count is used after the loop, it follows the rest of the program once for each. So the loop is given
/// the number apart.
#[inline(always)]
#[must_use]
pub fn apart(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut apart = u64::from(number);
        // SAFETY: one instruction on one register. No number that is used so is above 2³¹: the mask changes none.
        unsafe {
            core::arch::asm!("{0} &= 0x7fffffff", inout(reg) apart, options(pure, nomem, nostack));
        }
        apart as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// 1 when `a < b`, else 0, for numbers below 2⁶³, without a branch: a halving search of ten steps would otherwise be a
/// thousand paths to the verifier.
#[inline(always)]
#[must_use]
pub fn less(a: u64, b: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut sign = a;
        // SAFETY: two instructions on two registers.
        unsafe {
            core::arch::asm!("{0} -= {1}", "{0} >>= 63", inout(reg) sign, in(reg) b, options(pure, nomem, nostack));
        }
        sign
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        a.wrapping_sub(b) >> 63
    }
}

#[cfg(test)]
mod tests {
    use super::{element, element_mut, less};

    #[test]
    fn an_index_past_the_end_wraps() {
        let mut array = [10, 11, 12, 13];
        assert_eq!(*element(&array, 2), 12);
        assert_eq!(*element(&array, 4), 10);
        assert_eq!(*element(&array, u32::MAX), 13);
        *element_mut(&mut array, 5) = 20;
        assert_eq!(array, [10, 20, 12, 13]);
    }

    #[test]
    fn comparison_without_a_branch_is_comparison() {
        let numbers = [0, 1, 2, 1 << 40, i64::MAX as u64 - 1, i64::MAX as u64];
        for a in numbers {
            for b in numbers {
                assert_eq!(less(a, b) == 1, a < b, "{a} {b}");
            }
        }
    }
}
