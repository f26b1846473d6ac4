//! Entries rendered by several threads, a piece each, and written in order.

use std::io;
use std::thread;

use memscope_ebpf::live::SiteIndex;

use super::entries::Entries;
use super::model::Entry;
use super::order::Piece;
use super::sink::Sink;
use crate::beside::beside;

/// At most so many threads render.
const MOST_THREADS: usize = 4;
/// Text that a thread may have at once, bytes: little memory, and yet far more work than a thread is to start.
const PIECE_BYTES: usize = 1 << 20;

/// The text of a piece. What is too long for it is left out, and written straight to where the piece is.
#[derive(Default)]
pub(super) struct PieceText {
    bytes: Vec<u8>,
    /// Where something of a site goes that was left out.
    left: Vec<(usize, SiteIndex)>,
}

impl PieceText {
    /// Appends.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// It is no longer than a piece is meant to be. Pieces are cut by one thread's blocks, and of the others' more may
    /// lie in between.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < 2 * PIECE_BYTES
    }

    /// Leaves the place of something of this site.
    pub(super) fn leave(&mut self, site: SiteIndex) {
        self.left.push((self.bytes.len(), site));
    }

    /// Writes it, what was left out by `left_out`, and empties it.
    fn pass(
        &mut self,
        sink: &mut Sink<'_>,
        left_out: &impl Fn(&mut Sink<'_>, SiteIndex) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut from = 0;
        for (place, site) in self.left.drain(..) {
            sink.pass(&self.bytes[from..place])?;
            left_out(sink, site)?;
            from = place;
        }
        sink.pass(&self.bytes[from..])?;
        self.bytes.clear();
        Ok(())
    }
}

/// Renders every entry by `row`, which appends one entry's text to a buffer and is told whether the entry is the first of all.
/// `longest`: bytes of the longest such text. What it left out is written by `left_out`.
pub(super) fn render(
    sink: &mut Sink<'_>,
    entries: &Entries,
    longest: usize,
    row: impl Fn(&mut PieceText, SiteIndex, &Entry, bool) + Sync,
    left_out: impl Fn(&mut Sink<'_>, SiteIndex) -> io::Result<()>,
) -> io::Result<()> {
    let pieces = entries.pieces((PIECE_BYTES / longest.max(1)).clamp(16, 1 << 14));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut buffers: Vec<PieceText> = Vec::new();
    buffers.resize_with(threads.clamp(1, MOST_THREADS), PieceText::default);
    let mut first_of_all = true;
    for turn in pieces.chunks(buffers.len()) {
        thread::scope(|scope| {
            let mut work = turn.iter().zip(&mut buffers);
            let own = work.next();
            for (piece, buffer) in work {
                beside(scope, || render_piece(buffer, entries, piece, false, &row));
            }
            // One of them by this thread.
            if let Some((piece, buffer)) = own {
                render_piece(buffer, entries, piece, first_of_all, &row);
            }
        });
        first_of_all = false;
        for buffer in buffers.iter_mut().take(turn.len()) {
            buffer.pass(sink, &left_out)?;
        }
    }
    Ok(())
}

fn render_piece(
    buffer: &mut PieceText,
    entries: &Entries,
    piece: &Piece<'_>,
    mut first: bool,
    row: &impl Fn(&mut PieceText, SiteIndex, &Entry, bool),
) {
    for (index, entry) in entries.of_piece(piece.clone()) {
        row(buffer, index, &entry, first);
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_of_a_piece_is_written_in_its_place() {
        let mut piece = PieceText::default();
        piece.leave(SiteIndex(1));
        piece.push(b"b");
        piece.leave(SiteIndex(2));
        piece.leave(SiteIndex(3));
        piece.push(b"c");
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out);
        sink.text("a");
        for _ in 0..2 {
            piece
                .pass(&mut sink, &|sink, site| sink.show(format_args!("<{}>", site.0)))
                .unwrap();
        }
        sink.flush().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a<1>b<2><3>c", "once");
    }

    #[test]
    fn a_piece_has_room_until_it_is_long() {
        let mut piece = PieceText::default();
        while piece.has_room() {
            piece.push(&[b'x'; 1 << 16]);
        }
        assert_eq!(piece.bytes.len(), 2 * PIECE_BYTES);
    }
}
