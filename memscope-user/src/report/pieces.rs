//! Entries rendered by several threads, a piece each, and written in order.

use std::io;
use std::thread;

use memscope_ebpf::live::SiteIndex;

use super::entries::Entries;
use super::model::Entry;
use super::order::Piece;
use super::sink::Sink;

/// At most so many threads render.
const MOST_THREADS: usize = 4;
/// Text that a thread may have at once, bytes: little memory, and yet far more work than a thread is to start.
const PIECE_BYTES: usize = 1 << 20;

/// Renders every entry by `row`, which appends one entry's text to a buffer and is told whether the entry is the first of all.
/// `longest`: bytes of the longest such text.
pub(super) fn render(
    sink: &mut Sink<'_>,
    entries: &Entries,
    longest: usize,
    row: impl Fn(&mut Vec<u8>, SiteIndex, &Entry, bool) + Sync,
) -> io::Result<()> {
    let pieces = entries.pieces((PIECE_BYTES / longest.max(1)).clamp(16, 1 << 14));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut buffers = vec![Vec::new(); threads.clamp(1, MOST_THREADS)];
    let mut first_of_all = true;
    for turn in pieces.chunks(buffers.len()) {
        thread::scope(|scope| {
            let mut work = turn.iter().zip(&mut buffers);
            let own = work.next();
            for (piece, buffer) in work {
                scope.spawn(|| render_piece(buffer, entries, piece, false, &row));
            }
            // One of them by this thread.
            if let Some((piece, buffer)) = own {
                render_piece(buffer, entries, piece, first_of_all, &row);
            }
        });
        first_of_all = false;
        for buffer in buffers.iter_mut().take(turn.len()) {
            sink.pass(buffer)?;
            buffer.clear();
        }
    }
    Ok(())
}

fn render_piece(
    buffer: &mut Vec<u8>,
    entries: &Entries,
    piece: &Piece<'_>,
    mut first: bool,
    row: &impl Fn(&mut Vec<u8>, SiteIndex, &Entry, bool),
) {
    for (index, entry) in entries.of_piece(piece.clone()) {
        row(buffer, index, &entry, first);
        first = false;
    }
}
