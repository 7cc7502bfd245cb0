//! The `pgdrover` program: everything is in the library.

fn main() {}
