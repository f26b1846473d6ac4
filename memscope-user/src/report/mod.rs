//! The report: a model, then one file a rendering.

pub mod model;
