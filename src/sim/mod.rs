//! Simulated peers: for the demo, the tests and the benchmarks.
