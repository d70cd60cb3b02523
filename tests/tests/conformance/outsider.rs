//! A party to nothing.

pub(crate) use sammati_tests::story::Outsider;
