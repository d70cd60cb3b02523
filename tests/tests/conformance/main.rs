//! Conformance, black box, over real sockets: every RPC of every contract, walked by its descriptor, and what the wire
//! must withstand. One system on SQLite serves all tests; a second one serves those that move the clock.

mod cases;
mod contract;
mod coverage;
mod deadlines;
mod dynamic;
mod fields;
mod guardians;
mod limits;
mod mutations;
mod outsider;
mod poison;
mod rates;
mod raw;
mod reflection;
mod sample;
mod secrets;
mod stage;
mod strangers;
mod tokens;
mod verdict;
mod wire;
mod world;
mod wrong;
