//! The in-memory twin of the disk store, for simulation and tests: same answers, no disk.
