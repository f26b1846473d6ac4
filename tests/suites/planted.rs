//! Leaks planted in real programs.
