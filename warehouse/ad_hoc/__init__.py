"""SQL that people write: a gate of allowed functions, and for the embedded engine a child process that runs it."""
