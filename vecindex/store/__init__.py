"""What must survive: files, frames, the log, segments, the manifest, the lock, recovery."""
