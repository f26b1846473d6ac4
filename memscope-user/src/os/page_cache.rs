//! How much of a file is in the page cache: mincore(2) over a mapping of ours that is never touched.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Bytes asked about at once: an answer of 256 KiB.
const WINDOW: u64 = 1 << 30;

/// Bytes of the first `length` of a file that are in the page cache, in whole pages.
///
/// # Errors
/// The file cannot be mapped, as those of some virtual file systems.
pub fn resident_bytes(file: &File, length: u64) -> io::Result<u64> {
    let page = procfs::page_size().max(1);
    let mut resident = 0;
    let mut offset = 0;
    while offset < length {
        let window = WINDOW.min(length - offset);
        resident += resident_pages(file, offset, window, page)? * page;
        offset += window;
    }
    Ok(resident)
}

fn resident_pages(file: &File, offset: u64, length: u64, page: u64) -> io::Result<u64> {
    let bytes = usize::try_from(length).map_err(io::Error::other)?;
    let at = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let mut answer = vec![0u8; usize::try_from(length.div_ceil(page)).map_err(io::Error::other)?];
    // SAFETY: a new mapping at an address of the kernel's choice, which nothing but the calls below is given; it is not
    // read, so a file that is cut short meanwhile does no harm.
    let mapping = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            at,
        )
    };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is `bytes` long, and the answer has one byte for each of its pages.
    let outcome = unsafe { libc::mincore(mapping, bytes, answer.as_mut_ptr()) };
    let error = io::Error::last_os_error();
    // SAFETY: the mapping made above, which nothing refers to any more.
    unsafe { libc::munmap(mapping, bytes) };
    if outcome != 0 {
        return Err(error);
    }
    Ok(answer.iter().filter(|page| **page & 1 == 1).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_just_written_is_in_the_page_cache() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 100_000]).unwrap();
        let page = procfs::page_size();
        let resident = resident_bytes(&file, 100_000).unwrap();
        assert_eq!(resident, 100_000u64.div_ceil(page) * page);
        assert_eq!(resident_bytes(&file, 0).unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = File::open("/proc/self/status").unwrap();
        assert!(resident_bytes(&file, 4096).is_err());
    }
}
