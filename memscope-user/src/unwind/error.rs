//! Why a file gave no unwind table.

use thiserror::Error;

use super::image::ImageError;

/// Why no table could be made.
#[derive(Debug, Error)]
pub enum UnwindError {
    /// The file is not an ELF image that can be unwound.
    #[error("cannot read the ELF image: {0}")]
    Image(#[from] ImageError),
    /// Neither `.eh_frame` nor `.debug_frame` holds an entry for the image's code.
    #[error("the file has no call frame information: neither .eh_frame nor .debug_frame describes its code")]
    NoCfi,
    /// More of something than any real file has; the file is broken or hostile.
    #[error("the file has more {what} than the limit of {limit}: broken, or made to waste our time")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much would have been accepted.
        limit: u64,
    },
}
