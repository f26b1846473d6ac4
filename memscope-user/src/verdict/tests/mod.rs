//! Verdicts on synthetic streams: a naive allocator model makes them, so that the truth is known.

mod container;
mod database;
mod drawn;
mod matrix;
mod model;
mod properties;
mod sampled;
mod shapes;
mod standing;
mod streams;
