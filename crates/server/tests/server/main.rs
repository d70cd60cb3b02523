//! The server from outside: a small service behind the real stack, called over real sockets.

mod callers;
mod calls;
mod facts;
mod host;
mod overload;
mod rates;
mod sockets;
