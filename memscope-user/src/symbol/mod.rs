//! Names: from saved mappings and build ids to function, offset, file and line.
