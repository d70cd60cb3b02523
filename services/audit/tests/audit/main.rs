//! What the audit log promises, on both databases.

mod appending;
mod erasing;
mod exporting;
mod fixture;
mod flipping;
mod fsck;
mod keys;
mod mirror;
mod parts;
mod proving;
mod reading;
mod relay;
mod relaying;
mod rounds;
mod sealed;
mod serving;
mod skew;
mod sources;
mod streaming;
mod subject;
mod succession;
mod verifying;
mod watching;
mod witnessing;
