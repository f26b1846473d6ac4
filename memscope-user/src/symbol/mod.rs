//! Names: from saved mappings and build ids to function, offset, file and line.

/// placeholder
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SavedModule {}
