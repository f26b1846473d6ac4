//! The allocator a process really uses: catalogue, discovery in its ELF images, custom specifications.
