//! Commands and calls on a real store.
